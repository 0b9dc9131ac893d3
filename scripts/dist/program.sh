#!/usr/bin/env bash
# Builds the program of a target as it is shipped, and says last where it is:
# `program.sh TARGET [FEATURE…]`. It is static; see build.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=scripts/cross.sh
. scripts/cross.sh
target=$1
shift
how=build
case $target in
*-linux-musl) how=zigbuild ;;
*-linux-gnu) rust_flags -C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs ;;
esac
"$cargo" "$how" --locked --profile dist --target "$target" --package haulage-cli --no-default-features --features "$*" >&2
echo "$built/$target/dist/haulage"
