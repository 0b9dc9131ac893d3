#!/usr/bin/env bash
# Runs fuzz targets, each for so many seconds: `run.sh 600`, `run.sh 10 message url`.
# What a target finds is printed, with the file of the input that did it; CONTRIBUTING.md
# says what to do with it. CARGO_FUZZ is the program, PYTHON the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1
shift
if [ $# = 0 ]; then
    for file in fuzz/fuzz_targets/*.rs; do set -- "$@" "$(basename "$file" .rs)"; done
    set -- "$@" frames
fi

for target; do
    echo "$target: $seconds s"
    if [ "$target" = frames ]; then
        "${PYTHON:-python3}" fuzz/frames.py "$seconds"
        continue
    fi
    mkdir -p "fuzz/corpus/$target"
    # No sanitizer: those need a nightly toolchain, and the code is safe Rust. What costs
    # more time or memory than an input of 64 KiB may is found all the same.
    "$CARGO_FUZZ" fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=1024 \
        -verbosity=0 -print_final_stats=1
done
