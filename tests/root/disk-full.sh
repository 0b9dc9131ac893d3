#!/bin/sh
# What a full disk does: refused submits with a clear message, nothing
# half-done, everything that was acknowledged still there, and a way out: what
# is there can be settled, cancelled and purged, and then there is room again.
# The same through a server, which goes on. Needs root, for a file system of
# 8 MiB. Usage: disk-full.sh PATH-TO-HAULAGE
set -eu

if [ "${2:-}" != inside ]; then
    exec unshare --mount "$0" "$(realpath "$1")" inside
fi
haulage=$1
folder=$(mktemp -d)
mount -t tmpfs -o size=8m tmpfs "$folder"
errors=$(mktemp)
log=$(mktemp)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; wait; umount "$folder"; rmdir "$folder"; rm -f "$errors" "$log"' EXIT
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

visible() {
    "$haulage" stats --json | sed 's/.*"visible":\([0-9]*\).*/\1/'
}

# Until there is no room, and out again.
fill() {
    accepted=0
    body=$(head -c 130000 /dev/zero | tr '\0' 'x')
    while id=$("$haulage" submit "\"$body\"" 2>"$errors"); do
        accepted=$((accepted + 1))
        last=$id
        [ "$accepted" -lt 200 ] || fail "a disk of 8 MiB took 26 MB"
    done
    grep -q 'is nearly full: nothing was stored' "$errors" || fail "$(cat "$errors")"
    [ "$accepted" -gt 20 ] || fail "only $accepted jobs fitted"
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
}

fill

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

# A server, whose log is elsewhere.
rm "$folder"/*
"$haulage" serve --listen 127.0.0.1:0 2>"$log" &
server=$!
until url=$(grep -o -m 1 'http://127[^ ]*' "$log"); do
    kill -0 "$server" 2>/dev/null || fail "$(cat "$log")"
    sleep 0.1
done
HAULAGE_URL=$url
fill
dd if=/dev/zero of="$folder/other" bs=4k 2>/dev/null || true
ends_with 7 "$haulage" submit 1
grep -q 'full' "$errors" || fail "$(cat "$errors")"
[ "$(visible)" = 1 ] || fail "$(visible) jobs are there in place of 1"
# As a client in any language hears of it, for each line of an upload.
python3 - "$url" <<'END' || fail "an upload is not answered as it should be"
import json, sys, urllib.error, urllib.request

def ask(kind, body):
    request = urllib.request.Request(sys.argv[1] + "/v1/jobs", body.encode(), {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()

status, headers, body = ask("application/json", '{"body": 1}')
problem = json.loads(body)
assert (status, problem["type"]) == (503, "haulage:unavailable"), body
assert "full" in problem["detail"] and int(headers["Retry-After"]) > 0, body
status, headers, body = ask("application/jsonl", '{"body": 1}\n' * 3)
lines = [json.loads(line) for line in body.splitlines()]
assert status == 200 and [line["line"] for line in lines] == [1, 2, 3], body
assert all("full" in line["error"]["detail"] for line in lines), body
END
rm "$folder/other"
ends_with 0 "$haulage" submit 1
[ "$(visible)" = 2 ] || fail "$(visible) jobs are there in place of 2"
kill -0 "$server" || fail "$(cat "$log")"
if grep -i panic "$log"; then fail "the server panicked"; fi
echo "disk-full: the same through a server: ok"
