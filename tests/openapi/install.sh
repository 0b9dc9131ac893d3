#!/usr/bin/env bash
# Installs what the server is tried with, pinned, into the ignored folder
# .tools/openapi. What is there already stays.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$PWD/.tools
python=${PYTHON:-python3}
stamp=$tools/.openapi-installed
# A virtual environment knows its own path: in a checkout that was moved, it is made anew.
version=$("$python" --version && cksum < tests/openapi/requirements.txt && echo "$tools")
if [ "$(cat "$stamp" 2>/dev/null)" = "$version" ]; then
    exit
fi
tests/requirements.sh python
echo "installing schemathesis into .tools"
rm -rf "$tools/openapi"
mkdir -p "$tools"
"$python" -m venv "$tools/openapi"
"$tools/openapi/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement tests/openapi/requirements.txt
echo "$version" > "$stamp"
