#!/bin/sh
# Fills ROOT with what the worker image has: `program.sh ROOT`, in the build
# context. The program is $PROGRAM, a file or an archive of `make dist`, or
# compiled here.
set -eu
root=$1
program=${PROGRAM:-}

fail() {
    echo "images: $1" >&2
    exit 1
}

certificates=/etc/ssl/certs/ca-certificates.crt
if [ -n "$program" ]; then
    [ -s "$program" ] || fail "there is no program $program in the build context; make it by \`make dist\`, or leave PROGRAM out to compile it"
    case $program in
    *.tar.gz)
        mkdir /tmp/program
        tar -xzf "$program" --strip-components=1 -C /tmp/program
        program=/tmp/program/haulage
        ;;
    esac
else
    command -v cargo >/dev/null || fail "RUST_BASE has no Rust; name an image that has, or a program by PROGRAM"
    # Static, on musl and on glibc.
    host=$(rustc --version --verbose | sed -n 's/^host: //p')
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile dist --target "$host" \
        --package haulage-cli --no-default-features --features aws
    program=target/$host/dist/haulage
fi
[ -s "$certificates" ] || fail "RUST_BASE has no $certificates; name an image with the package ca-certificates"

mkdir -p "$root/usr/local/bin" "$root/etc/ssl/certs" "$root/data" "$root/tmp"
cp "$program" "$root/usr/local/bin/haulage"
chmod 755 "$root/usr/local/bin/haulage"
cp "$certificates" "$root/etc/ssl/certs/"
echo "haulage:x:65532:65532::/data:/sbin/nologin" > "$root/etc/passwd"
echo "haulage:x:65532:" > "$root/etc/group"
chroot "$root" /usr/local/bin/haulage --version \
    || fail "$program does not run in an empty image: it is not static, or for another processor; make it by \`make dist\`"
