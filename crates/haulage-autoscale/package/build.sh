#!/usr/bin/env bash
# Builds the scaling Lambda for both architectures of AWS Lambda, or for those
# that are named (arm64, x86_64), and packs each as
# .tools/lambda/haulage-autoscale-ARCHITECTURE.zip. The same sources give the
# same bytes wherever they are, with the same versions of Rust, of zig
# (requirements.txt), and of Python and the zlib that it packs with. The
# programs beside the zips are for measuring.
set -euo pipefail
cd "$(dirname "$0")/../../.."
here=crates/haulage-autoscale/package
tools=$PWD/.tools
python=${PYTHON:-python3}
cargo=${CARGO:-cargo}
tests/requirements.sh rust python musl

# A virtual environment knows its own path: in a checkout that was moved, it is made anew.
stamp="$(cksum < "$here/requirements.txt") $tools"
if [ "$(cat "$tools/.zig-installed" 2>/dev/null)" != "$stamp" ]; then
    echo "installing cargo-zigbuild and zig into .tools"
    rm -rf "$tools/zig"
    mkdir -p "$tools"
    "$python" -m venv "$tools/zig"
    "$tools/zig/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    echo "$stamp" > "$tools/.zig-installed"
fi
export PATH=$tools/zig/bin:$PATH
export CARGO_ZIGBUILD_PYTHON_PATH=$tools/zig/bin/python
cache=$tools/zig/cache
export CARGO_ZIGBUILD_CACHE_DIR=$cache ZIG_GLOBAL_CACHE_DIR=$cache ZIG_LOCAL_CACHE_DIR=$cache

target=$("$cargo" metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
# Paths of this machine have no place in the program. Between flags, cargo wants
# the unit separator, since paths may hold spaces.
flags=("--remap-path-prefix=$target=/target" "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
    "--remap-path-prefix=$PWD=/haulage")
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\037' && echo "${flags[*]}")
export CARGO_ENCODED_RUSTFLAGS

[ $# -gt 0 ] || set -- arm64 x86_64
for architecture in "$@"; do
    triple=${architecture/arm64/aarch64}-unknown-linux-musl
    if ! [ -d "$(rustc --print sysroot)/lib/rustlib/$triple" ]; then
        rustup target add "$triple"
    fi
    "$cargo" zigbuild --locked --profile lambda --target "$triple" --package haulage-autoscale \
        --features lambda --bin haulage-autoscale
    mkdir -p "$tools/lambda/$architecture"
    install -m 0755 "$target/$triple/lambda/haulage-autoscale" "$tools/lambda/$architecture/bootstrap"
    "$python" "$here/pack.py" "$tools/lambda/$architecture/bootstrap" \
        "$tools/lambda/haulage-autoscale-$architecture.zip"
done
