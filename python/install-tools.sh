#!/usr/bin/env bash
# Installs what the Python package is built and tested with, pinned, into the
# ignored folder .tools/python. What is there already stays.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$PWD/.tools
python=${PYTHON:-python3}
stamp=$tools/.python-installed
# A virtual environment knows its own path: in a checkout that was moved, it is made anew.
version=$("$python" --version && cksum < python/requirements.txt && echo "$tools")
if [ "$(cat "$stamp" 2>/dev/null)" = "$version" ]; then
    exit
fi
tests/requirements.sh python
echo "installing the tools of the Python package into .tools"
rm -rf "$tools/python"
mkdir -p "$tools"
"$python" -m venv "$tools/python"
"$tools/python/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement python/requirements.txt
echo "$version" > "$stamp"
