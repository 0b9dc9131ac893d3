#!/usr/bin/env bash
# Publishes on crates.io what may be published, each crate after what it depends on. Those that are there
# in this version already are left out, so that a release that broke off can be run again.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo=${CARGO:-cargo}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
left=0
there=()
for crate in $(scripts/release/crates.sh); do
    if "$cargo" info --quiet --registry crates-io "$crate@$version" >/dev/null; then
        echo "release: $crate $version is published already"
        there+=(--exclude "$crate")
    else
        left=$((left + 1))
    fi
done
[ "$left" = 0 ] || "$cargo" publish --workspace --locked ${there[@]+"${there[@]}"}
