#!/usr/bin/env bash
# The units of the documentation, as systemd reads them. Usage: units.sh PATH-TO-HAULAGE
set -euo pipefail
haulage=$(realpath "$1")
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT

"${PYTHON:-python3}" tests/docs/pages.py "$folder" docs/serve.md docs/guides/systemd.md
units=("$folder"/etc/systemd/system/*)
[ ${#units[@]} -ge 4 ] || {
    echo "units: the documentation has ${#units[@]} units" >&2
    exit 1
}
sed -i "s|/usr/local/bin/haulage|$haulage|" "${units[@]}"
# What it does not know, it only warns of.
if ! told=$(systemd-analyze verify --man=no "${units[@]}" 2>&1) || [ -n "$told" ]; then
    echo "units: $told" >&2
    exit 1
fi
echo "${#units[@]} units are as systemd wants them"
