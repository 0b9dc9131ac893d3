#!/usr/bin/env bash
# Looks for what a target of the Makefile needs, before anything is compiled,
# and says in a line what is missing and how to get it:
# `requirements.sh rust lint python`.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
python=${PYTHON:-python3}
status=0

missing() {
    echo "$1 is missing: $2" >&2
    status=1
}

# has PROGRAM REMEDY; a program, not a function of this file of that name
has() {
    type -P "$1" >/dev/null || {
        missing "$1" "$2"
        return 1
    }
}

# Whether a version is as new as another: `at_least 1.89 1.95.0`.
at_least() {
    printf '%s\n' "$1" "$2" | sort --version-sort --check=silent
}

rust() {
    local oldest version
    local remedy="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    if has "$cargo" "$remedy"; then
        oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
        version=$("$cargo" --version | cut -d ' ' -f 2)
        at_least "$oldest" "$version" || missing "Rust $oldest or newer (here is $version)" "rustup update, or $remedy"
    fi
    # With the headers of the C library, which are a package of their own in places.
    echo '#include <stdlib.h>
        int main(void) { return 0; }' | "${CC:-cc}" -x c -o /dev/null - 2>/dev/null \
        || missing "a C compiler" "apt-get install gcc libc6-dev"
}

lint() {
    "$cargo" fmt --version >/dev/null 2>&1 || missing rustfmt "rustup component add rustfmt"
    "$cargo" clippy --version >/dev/null 2>&1 || missing clippy "rustup component add clippy"
}

# What runs targets side by side, tests/timed.sh.
lanes() {
    [ $((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1])) -ge 501 ] \
        || missing "bash 5.1 or newer (here is $BASH_VERSION)" "apt-get install bash, or brew install bash"
    has flock "apt-get install util-linux, or brew install flock" || true
}

python() {
    local remedy="apt-get install python3 python3-venv"
    has "$python" "$remedy" || return 0
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        missing "Python 3.10 or newer (here is $("$python" --version))" "$remedy, or name another one: make PYTHON=…"
    fi
    # Debian has both apart from the rest of Python.
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing "Python's venv" "apt-get install python3-venv"
}

# For libFuzzer.
cxx() {
    has "${CXX:-c++}" "apt-get install g++" || true
}

node() {
    local remedy="install Node.js 18 or newer"
    has node "$remedy" || true
    has npm "$remedy" || true
}

java() {
    has java "apt-get install default-jre-headless (17 or newer)" || true
}

curl() {
    has curl "apt-get install curl (7.82 or newer)" || true
}

jq() {
    has jq "apt-get install jq" || true
}

systemd() {
    has systemd-analyze "apt-get install systemd" || true
}

# The Rust targets of the Lambda, or somebody to add them.
musl() {
    command -v rustup >/dev/null 2>&1 || [ -d "$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/aarch64-unknown-linux-musl" ] \
        || missing "the Rust target aarch64-unknown-linux-musl" "install it from where Rust is, or rustup"
}

root() {
    [ "$(id -u)" = 0 ] || {
        missing root "run this by sudo, or in a container"
        return 0
    }
    unshare --mount --pid --fork true 2>/dev/null \
        || missing "the right to unshare and to mount" "give the container CAP_SYS_ADMIN (docker run --privileged)"
}

debian() {
    has debootstrap "apt-get install debootstrap" || true
    has git "apt-get install git" || true
}

apt() {
    has apt-get "run this on Debian or Ubuntu" || true
}

for name in "$@"; do
    "$name"
done
exit "$status"
