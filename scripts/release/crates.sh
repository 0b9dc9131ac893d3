#!/usr/bin/env bash
# Prints the crates that are published: those that do not say `publish = false`.
set -euo pipefail
cd "$(dirname "$0")/../.."
"${CARGO:-cargo}" metadata --no-deps --format-version 1 | "${PYTHON:-python3}" -c '
import json, sys
for package in json.load(sys.stdin)["packages"]:
    if package["publish"] is None:
        print(package["name"])'
