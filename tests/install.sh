#!/usr/bin/env bash
# Installs what a folder of tests/ names in its requirements.txt, pinned, into the
# ignored folder of that name below .tools: `install.sh docs`. What is there already stays.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1
tools=$PWD/.tools
python=${PYTHON:-python3}
stamp=$tools/.$name-installed
# A virtual environment knows its own path: in a checkout that was moved, it is made anew.
version=$("$python" --version && cksum < "tests/$name/requirements.txt" && echo "$tools")
if [ "$(cat "$stamp" 2>/dev/null)" = "$version" ]; then
    exit
fi
tests/requirements.sh python
echo "installing the tools of tests/$name into .tools"
rm -rf "${tools:?}/$name"
mkdir -p "$tools"
"$python" -m venv "$tools/$name"
"$tools/$name/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement "tests/$name/requirements.txt"
echo "$version" > "$stamp"
