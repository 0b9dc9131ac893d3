#!/bin/sh
# What a worker is as the first process of a container: it takes note of the end
# of every process that lost its parent, passes signals on, and ends with the
# right code. Needs root, for process ids of its own. Usage:
# first-process.sh PATH-TO-HAULAGE
set -eu

if [ "${2:-}" != inside ]; then
    exec unshare --pid --fork --mount-proc "$0" "$(realpath "$1")" inside
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export HAULAGE_URL="sqlite://$folder/haulage.db"
haulage=$1

fail() {
    echo "first-process: $1" >&2
    cat worker.log >&2
    exit 1
}

cat >handler.sh <<'HANDLER'
#!/bin/sh
# Loses its parent at once, and ends when the job is long over.
setsid sh -c 'sleep 0.2' >/dev/null 2>&1 &
echo 1
HANDLER
chmod +x handler.sh

# Process 1 of a third set of process ids; 0 is the id of its parent, out here.
unshare --pid --fork --kill-child --mount-proc "$haulage" worker --concurrency 2 --exec ./handler.sh 2>worker.log &
outer=$!
for _ in $(seq 40); do "$haulage" submit 1; done >ids
"$haulage" wait --stdin --wait-timeout 300 <ids >/dev/null || fail "the jobs did not succeed"
# Out here, too, zombies are to be seen.
for _ in $(seq 600); do
    zombies=$(grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l)
    sleepers=$(grep -l '^Name:.sleep$' /proc/[0-9]*/status 2>/dev/null | wc -l)
    [ "$zombies" -gt 0 ] || [ "$sleepers" -gt 0 ] || break
    sleep 0.1
done
[ "$zombies" -eq 0 ] || fail "$zombies zombies are left of 40 jobs"
# The first process in there is the child of `unshare`.
first=$(cat /proc/$outer/task/$outer/children)
kill -TERM $first
code=0
wait $outer || code=$?
[ "$code" -eq 0 ] || fail "it ended with code $code"
grep -q 'worker stopped: 40 succeeded' worker.log || fail "it was not asked to stop"
echo "first-process: 40 jobs, no zombie, and a polite end: ok"
