#!/usr/bin/env bash
# Makes what a release consists of, into dist/: for each target that is named the
# program, in an archive, and the wheel, and for musl the scaling Lambda; then the bills of materials, the
# licences of what is linked in, and checksums of all of it. Without a target: all of Linux. What was in
# dist/ before stays until all of it is there.
#
# A program is static. Those of Linux are built for musl, on any machine. Without
# the musl target, the gnu target of the machine at hand gives one, too: it has the
# machine's own glibc in it, and is for tests.
set -euo pipefail
cd "$(dirname "$0")/../.."
tests/requirements.sh rust python

fail() {
    echo "dist: $1" >&2
    exit 1
}

[ $# -gt 0 ] || set -- {x86_64,aarch64}-unknown-linux-{musl,gnu}
# shellcheck source=scripts/cross.sh
. scripts/cross.sh
missing=()
for target in "$@"; do
    has_target "$target" || missing+=("$target")
done
[ ${#missing[@]} = 0 ] || fail "Rust has no target ${missing[*]} here, and rustup cannot add it; name those that you want, as in make dist DIST_TARGETS=\"$(rustc_host)\""

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
python/install-tools.sh
new=$tools/dist/new
rm -rf "$new"
mkdir -p "$new"
"$python" scripts/dist/licenses.py wheel python/licenses/THIRD-PARTY.txt "$@"

archive() {
    local target=$1 name program
    name=haulage-$version-$target
    program=$(scripts/dist/program.sh "$target" aws)
    rm -rf "$tools/dist/$name"
    mkdir -p "$tools/dist/$name"
    install -m 0755 "$program" "$tools/dist/$name/"
    install -m 0644 README.md LICENSE-APACHE LICENSE-MIT python/licenses/THIRD-PARTY.txt "$tools/dist/$name/"
    "$python" scripts/dist/pack.py "$tools/dist/$name" "$new/$name.tar.gz"
}

wheel() {
    local target=$1 how=()
    case $target in
    *-linux-gnu)
        how=(--compatibility manylinux_2_17)
        if [ "$target" = "$(rustc_host)" ]; then zig_for_host; else how+=(--zig); fi
        ;;
    *-linux-musl) how=(--zig --compatibility musllinux_1_2) ;;
    esac
    "$tools/python/bin/maturin" build --quiet --locked --profile dist --target "$target" --features aws \
        --manifest-path python/Cargo.toml "${how[@]}" --out "$new"
}

lambda() {
    local architecture=${1%%-*}
    architecture=${architecture/aarch64/arm64}
    crates/haulage-autoscale/package/build.sh "$architecture"
    cp "$tools/lambda/haulage-autoscale-$architecture.zip" "$new/haulage-autoscale-$version-$architecture.zip"
    lambdas+=("$1")
}

lambdas=()
for target in "$@"; do
    echo "dist: the wheel for $target"
    wheel "$target"
    case $target in
    *-linux-gnu)
        if [ "$target" != "$(rustc_host)" ] || [[ " $* " == *" ${target/gnu/musl} "* ]]; then
            continue
        fi
        ;;
    esac
    echo "dist: the program for $target"
    archive "$target"
    case $target in
    *-linux-musl)
        echo "dist: the scaling Lambda for $target"
        lambda "$target"
        ;;
    esac
done
"$python" scripts/dist/sbom.py wheel "$new" "$new/haulage-$version.cdx.json"
[ ${#lambdas[@]} = 0 ] \
    || "$python" scripts/dist/sbom.py lambda "$new/haulage-autoscale-$version.cdx.json" "${lambdas[@]}"
cp python/licenses/THIRD-PARTY.txt "$new/haulage-$version-third-party-licenses.txt"
(cd "$new" && sha256sum -- * > ../SHA256SUMS && mv ../SHA256SUMS .)
rm -rf dist
mv "$new" dist
ls -l dist
