#!/bin/sh
# What a full disk does: refused submits with a clear message, nothing
# half-done, and everything that was acknowledged still there. Needs root, for
# a file system of 4 MiB. Usage: disk-full.sh PATH-TO-HAULAGE
set -eu

if [ "${2:-}" != inside ]; then
    exec unshare --mount "$0" "$(realpath "$1")" inside
fi
haulage=$1
folder=$(mktemp -d)
mount -t tmpfs -o size=4m tmpfs "$folder"
trap 'umount "$folder"; rmdir "$folder"' EXIT
export HAULAGE_URL="sqlite://$folder/haulage.db"

fail() {
    echo "disk-full: $1" >&2
    exit 1
}

accepted=0
body=$(head -c 50000 /dev/zero | tr '\0' 'x')
errors=$(mktemp)
while id=$("$haulage" submit "\"$body\"" 2>"$errors"); do
    accepted=$((accepted + 1))
    last=$id
    [ "$accepted" -lt 200 ] || fail "a disk of 4 MiB took 10 MB"
done
grep -q 'is full: nothing was stored' "$errors" || fail "$(cat "$errors")"
rm "$errors"
[ "$accepted" -gt 10 ] || fail "only $accepted jobs fitted"
visible=$("$haulage" stats --json | sed 's/.*"visible":\([0-9]*\).*/\1/')
[ "$visible" = "$accepted" ] || fail "$accepted jobs were acknowledged, and $visible are there"
"$haulage" status "$last" >/dev/null || fail "the last acknowledged job is gone"
echo "disk-full: $accepted jobs accepted, the next refused, all still there: ok"
