#!/usr/bin/env bash
# The part of run.sh that runs as the first process of its own namespaces, so
# that what it mounts and what it starts ends with it:
# `inside.sh ROOT TOOLCHAIN CARGO_HOME`.
set -euo pipefail
root=$1
sysroot=$2
cargo_home=$3

mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for number in 0:stdin 1:stdout 2:stderr; do
    ln -s "/proc/self/fd/${number%:*}" "$root/dev/${number#*:}"
done

# Binds what is there on this machine into the bare one, to be read only.
lend() {
    local to=$root$2
    if [ -d "$1" ]; then
        mkdir -p "$to"
    else
        mkdir -p "$(dirname "$to")"
        touch "$to"
    fi
    mount --bind "$1" "$to"
    mount -o remount,bind,ro "$to"
}
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
lend "$sysroot" /opt/rust
lend /etc/ssl/certs /etc/ssl/certs

# Settings of the network, and the files and folders that they name.
environment=(HOME=/home/dev USER=dev "CARGO_HOME=$cargo_home" PATH=/opt/rust/bin:/usr/local/bin:/usr/bin:/bin)
while IFS='=' read -r -d '' name value; do
    case $name in
    *_proxy | *_PROXY | PIP_* | npm_config_* | NPM_CONFIG_* | CARGO_HTTP_* | CARGO_NET_* | CARGO_REGISTR* | \
        SSL_CERT_* | NODE_EXTRA_CA_CERTS | REQUESTS_CA_BUNDLE)
        environment+=("$name=$value")
        if [[ $value = /* && -e $value && ! -e $root$value ]]; then
            lend "$value" "$value"
        fi
        ;;
    esac
done < <(env --null)

# Runs a command as the user.
user() {
    chroot --userspec=dev:dev "$root" /usr/bin/env -i "${environment[@]}" /bin/sh -c "cd ~/haulage && $1"
}
user 'tests/timed.sh demo test'

# What they started may take a moment to end.
uid=$(stat -c %u "$root/home/dev")
for _ in {1..50}; do
    left=$(find "$root/proc" -maxdepth 1 -name '[0-9]*' -user "$uid" -printf '%f\n' 2>/dev/null || true)
    [ -n "$left" ] || exit 0
    sleep 0.2
done
echo "bare: processes are left:" >&2
for process in $left; do
    echo "$process: $(tr '\0' ' ' < "$root/proc/$process/cmdline")" >&2
done
exit 1
