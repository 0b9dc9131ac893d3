#!/bin/sh
# Fills FOLDER with what the Python image installs: `wheel.sh FOLDER`, in the
# build context. The wheel is $WHEEL, or compiled here.
set -eu
folder=$1
wheel=${WHEEL:-}
requirements=${REQUIREMENTS:-}

fail() {
    echo "images: $1" >&2
    exit 1
}

mkdir -p "$folder"
cp images/install.sh "$folder/"
if [ -n "$requirements" ]; then
    [ -f "$requirements" ] || fail "there is no file $requirements in the build context, which REQUIREMENTS names"
    cp "$requirements" "$folder/requirements.txt"
fi
if [ -n "$wheel" ]; then
    [ -s "$wheel" ] || fail "there is no wheel $wheel in the build context; make it by \`make dist\`, or leave WHEEL out to compile it"
    cp "$wheel" "$folder/"
    exit
fi
command -v cargo >/dev/null || fail "RUST_BASE has no Rust; name an image that has, or a wheel by WHEEL"
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    apt-get update -qq
    apt-get install -qq --yes --no-install-recommends python3 python3-venv >/dev/null
fi
python3 -m venv /opt/build
# With its hashes, which are on the lines after it. Its program needs nothing else.
sed -n '/^maturin==/,/[^\]$/p' python/requirements.txt > /opt/build/requirements.txt
/opt/build/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
    --requirement /opt/build/requirements.txt
/opt/build/bin/maturin build --locked --profile dist --features aws --manifest-path python/Cargo.toml --out "$folder"
