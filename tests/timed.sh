#!/usr/bin/env bash
# Runs targets of the Makefile, up to the first that fails, and tells how long each took
# and how many tests passed: `timed.sh demo test`. One argument after the other; what is in
# one and divided by `+` goes side by side: `timed.sh "a b + c" d` runs a and then b, beside
# them c, and d after all of these. What goes beside others is printed when it is over. The
# number of tests comes last.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .tools
folder=$(mktemp -d .tools/timed.XXXXXX)
log=$folder/log
: > "$log"

took() {
    printf '%-20s %3d min %02d s\n' "$1" $(($2 / 60)) $(($2 % 60))
}

# Ends the lanes that run, each of which is a process group of its own.
running=()
stop() {
    for process in ${running[@]+"${running[@]}"}; do
        kill -TERM -- "-$process" 2>/dev/null || true
    done
    wait
}
trap 'rm -rf "$folder"' EXIT
trap 'stop; exit 130' INT
trap 'stop; exit 143' TERM

# Runs one target, with all that it says in this file and, where it is alone, on the screen.
target() {
    local target=$1 output=$2 alone=$3 before=$SECONDS status=0 tee
    if [ "$alone" = yes ]; then
        exec 3> >(exec tee "$output")
        tee=$!
    else
        exec 3> "$output"
        tee=
    fi
    "${MAKE:-make}" "$target" >&3 2>&1 3>&- || status=$?
    exec 3>&-
    # A process that was left behind may hold the other end for ever.
    for ((i = 0; i < 100; i++)); do
        [ -n "$tee" ] && kill -0 "$tee" 2>/dev/null || break
        sleep 0.1
    done
    (
        flock 9
        [ "$alone" = yes ] || cat "$output"
        cat "$output" >> "$log"
        if [ "$status" != 0 ]; then
            took "make $target failed" $((SECONDS - before)) >&2
        else
            took "make $target" $((SECONDS - before)) | tee -a "$folder/table"
        fi
    ) 9> "$folder/lock"
    return "$status"
}

lane() {
    local alone=$1 name
    shift
    for name in "$@"; do
        [ "$alone" = yes ] || echo "make $name: started"
        target "$name" "$folder/$name" "$alone" || return
    done
}

for step in "$@"; do
    IFS='+' read -ra lanes <<< "$step"
    if [ ${#lanes[@]} = 1 ]; then
        # shellcheck disable=SC2086
        lane yes $step
        continue
    fi
    running=()
    for names in "${lanes[@]}"; do
        set -m
        # shellcheck disable=SC2086
        lane no $names &
        set +m
        running+=($!)
    done
    while [ ${#running[@]} != 0 ]; do
        status=0
        wait -n -p ended "${running[@]}" || status=$?
        left=()
        for process in "${running[@]}"; do
            [ "$process" = "$ended" ] || left+=("$process")
        done
        running=(${left[@]+"${left[@]}"})
        if [ "$status" != 0 ]; then
            stop
            exit "$status"
        fi
    done
done
echo
cat "$folder/table"
took together "$SECONDS"
# The lines of cargo's tests, of pytest, and of Node's tests.
awk '
    /^test result: /                   { passed += $4; failed += $6 }
    /^[0-9]+ passed.* in [0-9.]+s/     { passed += $1 }
    /^# pass [0-9]+$/                  { passed += $3 }
    /^# fail [0-9]+$/                  { failed += $3 }
    END { printf "%d passed, %d failed\n", passed, failed }
' "$log"
