#!/usr/bin/env bash
# Builds the scaling Lambda for both architectures of AWS Lambda, or for those
# that are named (arm64, x86_64), and packs each, with its licences, as
# .tools/lambda/haulage-autoscale-ARCHITECTURE.zip. The same sources give the
# same bytes wherever they are, with the same versions of Rust, of zig
# (scripts/zig-requirements.txt), and of Python and the zlib that it packs with. The
# programs beside the zips are for measuring.
set -euo pipefail
cd "$(dirname "$0")/../../.."
here=crates/haulage-autoscale/package
tests/requirements.sh rust python musl
. scripts/cross.sh

[ $# -gt 0 ] || set -- arm64 x86_64
for architecture in "$@"; do
    triple=${architecture/arm64/aarch64}-unknown-linux-musl
    has_target "$triple" || {
        echo "lambda: Rust has no target $triple here, and rustup cannot add it" >&2
        exit 1
    }
    "$cargo" zigbuild --locked --profile lambda --target "$triple" --package haulage-autoscale \
        --features lambda --bin haulage-autoscale
    mkdir -p "$tools/lambda/$architecture"
    install -m 0755 "$built/$triple/lambda/haulage-autoscale" "$tools/lambda/$architecture/bootstrap"
    "$python" scripts/dist/licenses.py lambda "$tools/lambda/$architecture/THIRD-PARTY.txt" "$triple"
    "$python" "$here/pack.py" "$tools/lambda/haulage-autoscale-$architecture.zip" \
        "$tools/lambda/$architecture/bootstrap" "$tools/lambda/$architecture/THIRD-PARTY.txt" LICENSE-APACHE LICENSE-MIT
done
