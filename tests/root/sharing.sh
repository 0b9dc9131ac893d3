#!/bin/sh
# Who shares a database, and how: a folder may be mounted twice, a single file
# may not; other users read nothing; who may only read stops nobody. Needs
# root, for mounts and for another user. Usage: sharing.sh PATH-TO-HAULAGE
set -eu

if [ "${2:-}" != inside ]; then
    exec unshare --mount "$0" "$(realpath "$1")" inside
fi
haulage=$1
folder=$(mktemp -d)
chmod 755 "$folder"
mkdir "$folder/one" "$folder/two"
trap 'umount "$folder/two/jobs.db" "$folder/two" 2>/dev/null || true; rm -r "$folder"' EXIT

fail() {
    echo "sharing: $1" >&2
    exit 1
}

at() {
    "$haulage" --url "sqlite://$folder/$1/jobs.db" submit 1
}

nobody() {
    setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
}

at one >/dev/null
: >"$folder/two/jobs.db"
mount --bind "$folder/one/jobs.db" "$folder/two/jobs.db"
if message=$(at two 2>&1); then
    fail "a file that is mounted alone was taken"
fi
case $message in
*'mount the folder'*) ;;
*) fail "$message" ;;
esac
umount "$folder/two/jobs.db"
mount --bind "$folder/one" "$folder/two"
at two >/dev/null
jobs=$("$haulage" --url "sqlite://$folder/one/jobs.db" list --json | wc -l)
[ "$jobs" = 2 ] || fail "$jobs jobs through both mounts"

for file in "$folder"/one/*; do
    if nobody cat "$file" >/dev/null 2>&1; then
        fail "another user reads $file"
    fi
done

# Readable on purpose: a reader's lock on the line of writers stops nobody.
chmod 644 "$folder/one/jobs.db"
at one >/dev/null
mkfifo "$folder/locked" "$folder/over"
chmod 666 "$folder/locked" "$folder/over"
python3 - "$folder" <<'END' &
import fcntl, os, struct, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
wake = open(sys.argv[1] + "/one/jobs.db-wake", "rb")
fcntl.fcntl(wake, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 2, 0))
open(sys.argv[1] + "/locked", "w").close()
open(sys.argv[1] + "/over").close()
END
: <"$folder/locked"
began=$(date +%s)
at one >/dev/null || fail "a reader stopped a writer"
took=$(($(date +%s) - began))
: >"$folder/over"
wait
[ "$took" -lt 10 ] || fail "a reader held a writer up for $took s"
echo "sharing: folders are shared, single files are not, others read nothing and stop nobody: ok"
