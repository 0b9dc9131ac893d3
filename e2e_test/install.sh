#!/usr/bin/env bash
# Installs what `make e2e-local` runs the tests and the example with, pinned, into
# the ignored folder .tools/e2e: `install.sh WHEEL`. What is there stays, but the wheel.
set -euo pipefail
wheel=$(realpath "$1")
cd "$(dirname "$0")/.."
tools=$PWD/.tools
requirements=(e2e_test/requirements.txt example/requirements.txt)

# A virtual environment knows its own path: in a checkout that was moved, it is made anew.
stamp="$(cat "${requirements[@]}" | cksum) $tools"
if [ "$(cat "$tools/.e2e-installed" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$tools/e2e"
    "${PYTHON:-python3}" -m venv "$tools/e2e"
    for file in "${requirements[@]}"; do
        "$tools/e2e/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement "$file"
    done
    echo "$stamp" > "$tools/.e2e-installed"
fi
"$tools/e2e/bin/pip" install --quiet --disable-pip-version-check --no-deps --force-reinstall "$wheel"
