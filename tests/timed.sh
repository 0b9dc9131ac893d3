#!/usr/bin/env bash
# Runs targets of the Makefile one after the other, up to the first that fails,
# and tells how long each took and how many tests passed: `timed.sh demo test`.
# The number of tests comes last.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .tools
log=$(mktemp .tools/timed.XXXXXX)
trap 'rm -f "$log"' EXIT

took() {
    printf '%-20s %3d min %02d s\n' "$1" $(($2 / 60)) $(($2 % 60))
}

table=
for target in "$@"; do
    before=$SECONDS
    status=0
    exec 3> >(exec tee -a "$log")
    tee=$!
    "${MAKE:-make}" "$target" >&3 2>&1 3>&- || status=$?
    exec 3>&-
    # A process that was left behind may hold the other end for ever.
    for ((i = 0; i < 100; i++)); do
        kill -0 "$tee" 2>/dev/null || break
        sleep 0.1
    done
    if [ "$status" != 0 ]; then
        took "make $target failed" $((SECONDS - before)) >&2
        exit "$status"
    fi
    line=$(took "make $target" $((SECONDS - before)))
    echo "$line"
    table+="$line"$'\n'
done
printf '\n%s' "$table"
took together "$SECONDS"
# The lines of cargo's tests, and of pytest.
awk '
    /^test result: /                   { passed += $4; failed += $6 }
    /^[0-9]+ passed.* in [0-9.]+s/     { passed += $1 }
    END { printf "%d passed, %d failed\n", passed, failed }
' "$log"
