#!/usr/bin/env bash
# Builds the program of a target as it is shipped, and says last where it is:
# `program.sh TARGET [FEATURE…]`. It is static; see build.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=scripts/cross.sh
. scripts/cross.sh
target=$1
shift
common=(--locked --profile dist --target "$target" --package haulage-cli --no-default-features --features "$*")
case $target in
*-linux-gnu)
    # Only the last step is not the wheel's: it is linked to the machine's own glibc.
    zig_for_host
    "$cargo" rustc "${common[@]}" --bin haulage -- \
        -C linker=cc -C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs >&2
    ;;
*-linux-musl) "$cargo" zigbuild "${common[@]}" >&2 ;;
*) "$cargo" build "${common[@]}" >&2 ;;
esac
echo "$built/$target/dist/haulage"
