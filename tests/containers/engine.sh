#!/usr/bin/env bash
# Runs a command with a Docker engine: `engine.sh COMMAND…`. The one that this
# machine has is taken where there is one that answers; or else, as root, one is
# installed (Debian's packages) and started, with all that it keeps in an ignored
# folder. That one ends, and its folder goes, with the command: also on Ctrl-C,
# and where this script is killed.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$PWD/.tools/containers/engine

fail() {
    echo "containers: $1" >&2
    exit 1
}

# Whether all of these programs are there.
has() {
    type -P "$@" | awk 'END { exit NR != '$#' }'
}

# Debian starts what it installs, now and at each boot, unless it is told not to:
# this machine has not asked for a service.
install_engine() {
    local policy=/usr/sbin/policy-rc.d services=()
    has dockerd || services+=(docker.service docker.socket)
    has containerd || services+=(containerd.service)
    if [ ! -e "$policy" ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod 755 "$policy"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends docker.io docker-compose >/dev/null \
        || fail "apt-get could not install docker.io and docker-compose"
    if ! has systemctl; then
        [ ${#services[@]} = 0 ] || update-rc.d docker disable
    elif [ ${#services[@]} != 0 ]; then
        systemctl --quiet disable "${services[@]}"
    fi
}

if has docker; then
    if said=$(docker version --format '{{.Server.Version}}' 2>&1); then
        echo "containers: the Docker engine $said of this machine"
        exec "$@"
    fi
    case $said in
    *"permission denied"*)
        fail "no permission to use Docker; run this as root, or join its group: sudo usermod -aG docker $(id -un), and log in again" ;;
    esac
fi
[ -z "${DOCKER_HOST:-}" ] || fail "no Docker engine answers at DOCKER_HOST=$DOCKER_HOST; start it, or unset DOCKER_HOST"
[ "$(id -u)" = 0 ] || fail "no Docker engine is running; start it: sudo systemctl start docker, or run this as root, which starts one"
tests/requirements.sh root
if ! has docker dockerd || ! { docker compose version >/dev/null 2>&1 || has docker-compose; }; then
    has apt-get || fail "dockerd and Docker Compose are missing; install them: https://docs.docker.com/engine/install"
    echo "containers: installing docker.io and docker-compose"
    apt-get update -qq
    # In a shell of its own, with which the policy goes.
    (install_engine)
fi

mkdir -p "$(dirname "$folder")"
exec 9> "$(dirname "$folder")/lock"
flock --nonblock 9 || fail "another run in this folder has an engine; wait until it has ended"
rm -rf "$folder"
mkdir -p "$folder/data"
# In memory where there is enough, which is faster, and gone at once.
memory=$(awk '/^MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
export ENGINE_DATA=
[ "$memory" -lt 10 ] || ENGINE_DATA=$folder/data
export DOCKER_HOST=unix://$folder/docker.sock
networks=$(ls /sys/class/net)
# Process ids and mounts of its own: when the first process is killed, so is
# whatever the engine has started, and its mounts are gone. No rules of a
# firewall are made, which would stay: containers reach each other, and what is
# built uses this machine's network.
setpriv --pdeathsig KILL \
    unshare --mount --pid --fork --kill-child --mount-proc \
    sh -c '
        mkdir -p /etc/docker && mount -t tmpfs tmpfs /etc/docker || exit
        [ -z "$ENGINE_DATA" ] || mount -t tmpfs -o size=6g tmpfs "$ENGINE_DATA" || exit
        exec "$@"
    ' sh \
    dockerd --data-root "$folder/data" --exec-root "$folder/run" --pidfile "$folder/pid" --host "$DOCKER_HOST" \
    --cgroup-parent /haulage-containers --bridge none --iptables=false --ip6tables=false --ip-forward=false \
    > "$folder/log" 2>&1 &
engine=$!
child=

stop() {
    trap '' INT TERM
    if [ -n "$child" ]; then
        # It takes down what it has set up; what it does not, goes with the engine.
        kill -TERM "$child" 2>/dev/null || true
        for ((i = 0; i < ${ENGINE_GRACE:-60} * 10; i++)); do
            kill -0 "$child" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    fi
    # The engine is the child of `unshare`, and the first process in there.
    kill -KILL $(cat "/proc/$engine/task/$engine/children" 2>/dev/null) 2>/dev/null || true
    wait "$engine" 2>/dev/null || true
    # The bridges of networks that were not taken down, and empty control groups.
    for network in $(ls /sys/class/net); do
        case $network in
        br-*) grep -qx "$network" <<< "$networks" || ip link delete "$network" 2>/dev/null || true ;;
        esac
    done
    find /sys/fs/cgroup -depth -type d -path '*/haulage-containers*' -exec rmdir {} + 2>/dev/null || true
    # The last of its processes may take a moment to end.
    for _ in $(seq 50); do
        rm -rf "$folder" 2>/dev/null && break
        sleep 0.1
    done
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

until docker version >/dev/null 2>&1; do
    kill -0 "$engine" 2>/dev/null || {
        tail -n 5 "$folder/log" >&2
        fail "the Docker engine did not start; its last lines are above"
    }
    sleep 0.2
done
echo "containers: a Docker engine of its own, $(docker version --format '{{.Server.Version}}')"
# In the background, since bash hears a signal only between commands, or in `wait`.
"$@" &
child=$!
status=0
wait "$child" || status=$?
child=
exit "$status"
