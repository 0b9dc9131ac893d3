#!/usr/bin/env bash
# Installs what the documentation and the workflows are built and checked with,
# pinned, into the ignored folder .tools/docs. What is there already stays.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$PWD/.tools
python=${PYTHON:-python3}
stamp=$tools/.docs-installed
# A virtual environment knows its own path: in a checkout that was moved, it is made anew.
version=$("$python" --version && cksum < tests/docs/requirements.txt && echo "$tools")
if [ "$(cat "$stamp" 2>/dev/null)" = "$version" ]; then
    exit
fi
tests/requirements.sh python
echo "installing the tools of the documentation into .tools"
rm -rf "$tools/docs"
mkdir -p "$tools"
"$python" -m venv "$tools/docs"
"$tools/docs/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement tests/docs/requirements.txt
echo "$version" > "$stamp"
