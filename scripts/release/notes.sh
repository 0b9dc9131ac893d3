#!/usr/bin/env bash
# Prints what changed in a version, as CHANGELOG.md has it: `notes.sh 0.2.0`.
# Fails where that says nothing of it, still says "not released yet", or where
# the version of the workspace is another one.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=${1:?a version, such as 0.2.0}

fail() {
    echo "notes: $1" >&2
    exit 1
}

ours=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
[ "$version" = "$ours" ] || fail "the tag is of $version, and Cargo.toml says $ours; change one of them"
heading=$(grep -E "^## $version(,|$)" CHANGELOG.md) || fail "CHANGELOG.md has no heading \"## $version, DATE\"; add it"
case $heading in
*"not released"*) fail "CHANGELOG.md says that $version is not released yet; put the date there" ;;
esac
awk -v heading="$heading" '$0 == heading { on = 1; next } /^## / { on = 0 } on' CHANGELOG.md
