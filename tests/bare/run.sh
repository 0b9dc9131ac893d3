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
#
# Nothing that was compiled here goes there. What is compiled there comes here
# afterwards, if nothing is compiled here yet: cargo then builds the workspace
# alone, and not the SDK of AWS once more. It asks for crates in the folder of the
# same name, so that is where the bare machine has them.
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
mkdir -p "$root$cargo_home/registry"
for file in config.toml registry/index registry/cache; do
    [ ! -e "$cargo_home/$file" ] || cp -r "$cargo_home/$file" "$root$cargo_home/$file"
done
chroot "$root" chown -R dev:dev /home/dev "$cargo_home"
folder=$cargo_home
while [ "$folder" != / ]; do
    folder=$(dirname "$folder")
    chmod a+x "$root$folder"
done

# What is where nothing may be left: cargo has its own folder, and what git
# ignores in the clone goes by `make clean`.
outside() {
    find "$root/tmp" "$root/var/tmp" "$home" -mindepth 1 \( -path "$root$cargo_home" -o -path "$home/haulage" \) -prune \
        -o -printf '%p\n' | sort
    git -c safe.directory='*' -C "$home/haulage" status --porcelain --untracked-files=all
}
before=$(outside)
unshare --mount --pid --fork --kill-child --propagation private "$here/inside.sh" "$root" "$sysroot" "$cargo_home"
after=$(outside)
if [ "$before" != "$after" ]; then
    say "demo and test left or changed:" >&2
    diff <(echo "$before") <(echo "$after") >&2 || true
    exit 1
fi

# Once to check it, and once to build it: the SDK is most of what there is to compile.
compiled=$home/haulage/target/debug
times=$(find "$compiled/deps" -name 'libaws_sdk_dynamodb-*.rmeta' | wc -l)
if [ "$times" -gt 2 ]; then
    say "the SDK of AWS was compiled $times times, and 2 are needed: cargo test --package haulage --test dependencies" >&2
    exit 1
fi

# Programs of another system need not run here. The workspace has the clone's paths in it.
built=$("${CARGO:-cargo}" metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
if [ ! -e "$built/debug" ] && (. /etc/os-release && [ "$ID" = debian ]); then
    say "what was compiled there is taken from now on"
    rm -rf "$compiled/incremental" "$compiled"/.fingerprint/haulage*
    chown -R "$(id -u):$(id -g)" "$compiled"
    mkdir -p "$built"
    mv "$compiled" "$built/"
fi
rm -rf "$root"
