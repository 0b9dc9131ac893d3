# To be sourced, at the root of the repository, by what builds for other machines
# than this one: installs cargo-zigbuild and zig, once, and has cargo use them.
# shellcheck shell=bash

tools=$PWD/.tools
python=${PYTHON:-python3}
cargo=${CARGO:-cargo}
# Where cargo builds, wherever that is set.
built=$("$cargo" metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

# A virtual environment knows its own path: in a checkout that was moved, it is made anew.
stamp="$(cksum < scripts/zig-requirements.txt) $tools"
if [ "$(cat "$tools/.zig-installed" 2>/dev/null)" != "$stamp" ]; then
    echo "installing cargo-zigbuild and zig into .tools" >&2
    rm -rf "$tools/zig"
    mkdir -p "$tools"
    "$python" -m venv "$tools/zig"
    "$tools/zig/bin/pip" install --quiet --disable-pip-version-check --requirement scripts/zig-requirements.txt
    echo "$stamp" > "$tools/.zig-installed"
fi
export PATH=$tools/zig/bin:$PATH
export CARGO_ZIGBUILD_PYTHON_PATH=$tools/zig/bin/python
cache=$tools/zig/cache
export CARGO_ZIGBUILD_CACHE_DIR=$cache ZIG_GLOBAL_CACHE_DIR=$cache ZIG_LOCAL_CACHE_DIR=$cache

# Flags for rustc, these and no others: paths of this machine have no place in the
# program. Between flags, cargo wants the unit separator, since paths may hold spaces.
rust_flags() {
    local flags=("--remap-path-prefix=$built=/target" "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
        "--remap-path-prefix=$PWD=/haulage" "$@")
    CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\037' && echo "${flags[*]}")
    export CARGO_ENCODED_RUSTFLAGS
}
rust_flags

# Whether Rust has a target here, or rustup could add it.
has_target() {
    [ -d "$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/$1" ] || rustup target add "$1" >/dev/null 2>&1
}

# The target of this machine.
rustc_host() {
    "${RUSTC:-rustc}" --version --verbose | sed -n 's/^host: //p'
}

# Has cargo compile and link for this machine's gnu target by zig, for the glibc of
# manylinux_2_17, as `maturin --zig` does. It is set here, and not there, so that it is the
# same for the wheel and for the program: what both have is then compiled once.
zig_for_host() {
    local target name cc
    target=$(rustc_host)
    name=${target//-/_}
    cc=$tools/zig/cc
    cat > "$cc" <<EOF
#!/bin/sh
exec "$tools/zig/bin/cargo-zigbuild" zig cc -- -g -fno-sanitize=all -target ${target%%-*}-linux-gnu.2.17 "\$@"
EOF
    chmod +x "$cc"
    export "CC_$name=$cc" "CARGO_TARGET_${name^^}_LINKER=$cc"
}
