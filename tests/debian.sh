# Debian's packages as this machine has them, for scripts that make a minimal Debian.
# shellcheck shell=bash

# Says which `release` and `mirror` apt uses here, and sets its proxy.
debian_here() {
    mirror=http://deb.debian.org/debian
    release=stable
    [ "$(. /etc/os-release && echo "$ID")" = debian ] || return 0
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mirror=$(apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' \
        | awk -v release="$release" '$2 == release && $3 == "main" { print $1; exit }')
    local proxy=
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    [ -z "$proxy" ] || export http_proxy=$proxy
}
