#!/usr/bin/env bash
# Runs fuzz targets, each for so many seconds: `run.sh 600`, `run.sh 10 message url`.
# They run side by side, as many as there are cores. What a target finds is printed, with
# the file of the input that did it; CONTRIBUTING.md says what to do with it. CARGO_FUZZ is
# the program, PYTHON the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
export SECONDS_EACH=$1 PYTHON=${PYTHON:-python3}
shift
if [ $# = 0 ]; then
    for file in fuzz/fuzz_targets/*.rs; do set -- "$@" "$(basename "$file" .rs)"; done
    set -- "$@" frames
fi

# No sanitizer: those need a nightly toolchain, and the code is safe Rust. What costs
# more time or memory than an input of 64 KiB may is found all the same.
"$CARGO_FUZZ" build --sanitizer none
BUILT=fuzz/target/$(rustc -vV | sed -n 's/^host: //p')/release
export BUILT

one() {
    local target=$1 log status=0
    log=$(mktemp)
    if [ "$target" = frames ]; then
        "$PYTHON" fuzz/frames.py "$SECONDS_EACH" >"$log" 2>&1 || status=$?
    else
        mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
        "$BUILT/$target" "fuzz/corpus/$target" "fuzz/seeds/$target" "-artifact_prefix=fuzz/artifacts/$target/" \
            -max_total_time="$SECONDS_EACH" -max_len=65536 -timeout=10 -rss_limit_mb=1024 \
            -verbosity=0 -print_final_stats=1 >"$log" 2>&1 || status=$?
    fi
    if [ "$status" = 0 ]; then
        local tried
        tried=$(sed -n 's/^stat::number_of_executed_units: //p; s/^frames: \([0-9]*\) runs .*/\1/p' "$log")
        echo "$target: $tried inputs in $SECONDS_EACH s, nothing found"
    else
        echo "$target: found something (status $status)"
        cat "$log"
    fi
    rm "$log"
    return "$status"
}
export -f one
printf '%s\n' "$@" | xargs -P "$(nproc)" -I {} bash -c 'one "$1"' one {}
