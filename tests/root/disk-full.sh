#!/bin/sh
# What a full disk does: refused submits with a clear message, nothing
# half-done, everything that was acknowledged still there, and a way out: what
# is there can be settled, cancelled and purged, and then there is room again.
# Needs root, for a file system of 8 MiB. Usage: disk-full.sh PATH-TO-HAULAGE
set -eu

if [ "${2:-}" != inside ]; then
    exec unshare --mount "$0" "$(realpath "$1")" inside
fi
haulage=$1
folder=$(mktemp -d)
mount -t tmpfs -o size=8m tmpfs "$folder"
errors=$(mktemp)
trap 'umount "$folder"; rmdir "$folder"; rm -f "$errors"' EXIT
export HAULAGE_URL="sqlite://$folder/haulage.db"

fail() {
    echo "disk-full: $1" >&2
    exit 1
}

# $1: the code that is expected; the rest: a command.
ends_with() {
    expected=$1
    shift
    code=0
    "$@" >/dev/null 2>"$errors" || code=$?
    [ "$code" = "$expected" ] || fail "code $code in place of $expected: $*: $(cat "$errors")"
}

# Not even the files can be made.
dd if=/dev/zero of="$folder/other" bs=4k 2>/dev/null || true
ends_with 7 "$haulage" submit 1
grep -q 'is full' "$errors" || fail "$(cat "$errors")"
rm "$folder"/*

accepted=0
body=$(head -c 130000 /dev/zero | tr '\0' 'x')
while id=$("$haulage" submit "\"$body\"" 2>"$errors"); do
    accepted=$((accepted + 1))
    last=$id
    [ "$accepted" -lt 200 ] || fail "a disk of 8 MiB took 26 MB"
done
grep -q 'is nearly full: nothing was stored' "$errors" || fail "$(cat "$errors")"
[ "$accepted" -gt 20 ] || fail "only $accepted jobs fitted"
visible() {
    "$haulage" stats --json | sed 's/.*"visible":\([0-9]*\).*/\1/'
}
[ "$(visible)" = "$accepted" ] || fail "$accepted jobs were acknowledged, and $(visible) are there"
"$haulage" status "$last" >/dev/null || fail "the last acknowledged job is gone"
"$haulage" doctor 2>&1 | grep -q 'new jobs are refused' || fail "doctor does not say so"

# The way out.
ends_with 0 "$haulage" cancel "$last"
ends_with 0 "$haulage" purge "$last"
ends_with 0 timeout 300 "$haulage" worker --until-empty --concurrency 1 --exec 'echo 1'
[ "$(visible)" = 0 ] || fail "$(visible) jobs were not settled"
ends_with 0 "$haulage" purge --status success --older-than 0s --yes
ends_with 0 "$haulage" submit "\"$body\""
ends_with 0 "$haulage" doctor

# Filled to the last byte by somebody else.
dd if=/dev/zero of="$folder/other" bs=4k 2>/dev/null || true
for command in 'submit 1' stats list; do
    ends_with 7 "$haulage" $command
    grep -q 'is full' "$errors" || fail "$command: $(cat "$errors")"
done
rm "$folder/other"
ends_with 0 "$haulage" submit 1
[ "$(visible)" = 2 ] || fail "$(visible) jobs are there in place of 2"
echo "disk-full: $accepted jobs accepted, the next refused, all still there, and room again after a purge: ok"
