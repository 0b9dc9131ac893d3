#!/bin/sh
# Installs the wheel beside this file into /opt/venv, and what it needs to run:
# a part of python.Dockerfile.
set -eu
cd "$(dirname "$0")"

fail() {
    echo "images: $1" >&2
    exit 1
}

packages=
python3 -c 'import ensurepip, venv' 2>/dev/null || packages="python3 python3-venv"
command -v tini >/dev/null || packages="$packages tini"
if [ -n "$packages" ]; then
    command -v apt-get >/dev/null || fail "PYTHON_BASE lacks $packages, and has no apt-get to install it"
    apt-get update -qq
    # shellcheck disable=SC2086  # several packages
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends ca-certificates $packages >/dev/null
    rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
fi

python3 -m venv /opt/venv
pip() {
    /opt/venv/bin/pip "$@" --quiet --no-cache-dir --disable-pip-version-check
}
pip install ./*.whl
[ ! -f requirements.txt ] || pip install --requirement requirements.txt
/opt/venv/bin/haulage --help >/dev/null || fail "the wheel does not run on PYTHON_BASE"

# Who runs it, and may install more on top of it.
echo "haulage:x:65532:65532::/data:/usr/sbin/nologin" >> /etc/passwd
echo "haulage:x:65532:" >> /etc/group
mkdir -p /app /data
chown -R 65532:65532 /opt/venv /app /data
cd /
rm -rf /opt/haulage-install
