#!/usr/bin/env bash
# `make demo` and `make test`, as the README has them, on a machine that has
# what it requires and nothing else: a minimal Debian, made for this run below
# .tools/bare, with the toolchain of this machine, an ordinary user whose home
# is empty, and a clone of HEAD. Fails, too, if a file is left outside what git
# ignores in the clone, or a process. Needs root, for the namespaces in which
# this happens; what it made stays where it failed, and goes at the next run.
#
# What this machine knows about its network goes along: Debian's mirror as apt
# has it, certificates, proxies, the settings of pip, npm and cargo, and the
# crates that it has downloaded.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/bare
work=$PWD/.tools/bare
root=$work/root
# What the README requires, under Debian's names.
packages=(gcc libc6-dev make python3 python3-venv ca-certificates)

tests/requirements.sh rust lint root debian

say() {
    echo "bare: $*"
}

sysroot=$("${RUSTC:-rustc}" --print sysroot)
if [ "$sysroot" = /usr ]; then
    say "Rust is part of this system's /usr, and cannot be lent to another: install it by rustup" >&2
    exit 1
fi

rm -rf "$root"
mkdir -p "$root" "$work/debs"

# shellcheck source=tests/debian.sh
. tests/debian.sh
debian_here
say "a minimal Debian ($release) with ${packages[*]}"
debootstrap --variant=minbase --include="$(IFS=, && echo "${packages[*]}")" --cache-dir="$work/debs" \
    "$release" "$root" "$mirror" > "$work/debootstrap.log" 2>&1 || {
    tail -n 20 "$work/debootstrap.log" >&2
    exit 1
}

changed=$(git status --porcelain | wc -l)
[ "$changed" = 0 ] || say "HEAD is what is tested; $changed changed or new files are not in it"
chroot "$root" useradd --no-create-home --shell /bin/bash dev
home=$root/home/dev
mkdir -p "$home"
git clone --quiet --depth 1 "file://$PWD" "$home/haulage"

# Settings of this machine's network, and what it has downloaded.
cp /etc/resolv.conf /etc/hosts "$root/etc/"
[ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/"
for file in .npmrc .config/pip/pip.conf .pip/pip.conf; do
    [ ! -f "$HOME/$file" ] || install -D "$HOME/$file" "$home/$file"
done
cargo_home=${CARGO_HOME:-$HOME/.cargo}
mkdir -p "$home/.cargo/registry"
for file in config.toml registry/index registry/cache; do
    [ ! -e "$cargo_home/$file" ] || cp -r "$cargo_home/$file" "$home/.cargo/$file"
done
chroot "$root" chown -R dev:dev /home/dev

# What is where nothing may be left: cargo has its own folder, and what git
# ignores in the clone goes by `make clean`.
outside() {
    find "$root/tmp" "$root/var/tmp" "$home" -mindepth 1 \( -path "$home/.cargo" -o -path "$home/haulage" \) -prune \
        -o -printf '%p\n' | sort
    git -c safe.directory='*' -C "$home/haulage" status --porcelain --untracked-files=all
}
before=$(outside)
unshare --mount --pid --fork --kill-child --propagation private "$here/inside.sh" "$root" "$sysroot"
after=$(outside)
if [ "$before" != "$after" ]; then
    say "demo and test left or changed:" >&2
    diff <(echo "$before") <(echo "$after") >&2 || true
    exit 1
fi
rm -rf "$root"
