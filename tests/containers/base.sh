#!/usr/bin/env bash
# Makes the images on which the tests build, without a registry of images: a
# minimal Debian by debootstrap, and on it Python and Node.js. What this machine
# knows about its network goes along: certificates, and the settings of pip.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$PWD/.tools/containers
debs=$PWD/.tools/bare/debs
mkdir -p "$work" "$debs"

if ! docker image inspect haulage-test/debian >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] || { echo "containers: debootstrap, which makes the base image, needs root: run this by sudo" >&2; exit 1; }
    type -P debootstrap >/dev/null || { echo "containers: debootstrap is missing: apt-get install debootstrap" >&2; exit 1; }
    # shellcheck source=tests/debian.sh
    . tests/debian.sh
    debian_here
    # In memory, which goes with the process.
    export root=$work/root debs release mirror log=$work/debootstrap.log
    mkdir -p "$root"
    unshare --mount bash -euo pipefail -c '
        mount -t tmpfs -o mode=755 tmpfs "$root"
        debootstrap --variant=minbase --include=ca-certificates --cache-dir="$debs" "$release" "$root" "$mirror" > "$log" 2>&1 || {
            tail -n 20 "$log" >&2
            exit 1
        }
        rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
        cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
        [ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/"
        tar -C "$root" -c . | docker import - haulage-test/debian >/dev/null
    '
    rmdir "$root"
fi

build() {
    docker build --quiet --network host --tag "$1" --file - tests/containers > "$work/build.log" 2>&1 || {
        tail -n 20 "$work/build.log" >&2
        exit 1
    }
}
build haulage-test/python <<'EOF'
FROM haulage-test/debian
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
EOF
build haulage-test/node <<'EOF'
FROM haulage-test/python
COPY node-requirements.txt /opt/
RUN python3 -m venv /opt/node \
    && /opt/node/bin/pip install --quiet --no-cache-dir --require-hashes --requirement /opt/node-requirements.txt \
    && ln -s /opt/node/bin/node /opt/node/bin/npm /usr/local/bin/
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
EOF
