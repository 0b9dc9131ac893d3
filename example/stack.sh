#!/usr/bin/env bash
# The local stack, with a word on what is missing before anything is started, and
# nothing left behind where it does not start: `stack.sh up --build --timeout 60`.
# The rest is Compose's: `stack.sh ps`, `stack.sh logs`, `stack.sh down`.
set -euo pipefail
cd "$(dirname "$0")"

fail() {
    echo "stack: $1" >&2
    exit 1
}

command -v docker >/dev/null \
    || fail "docker is missing; install it: https://docs.docker.com/engine/install, or apt-get install docker.io docker-compose"
if ! said=$(docker version --format '{{.Server.Version}}' 2>&1); then
    case $said in
    *"permission denied"*)
        fail "no permission to use Docker; run this with sudo, or join its group: sudo usermod -aG docker $(id -un), and log in again" ;;
    *) fail "no Docker engine is running; start it: sudo systemctl start docker, or set DOCKER_HOST" ;;
    esac
fi
if docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
elif command -v docker-compose >/dev/null; then
    compose=(docker-compose)
else
    fail "Docker Compose is missing; install it: https://docs.docker.com/compose/install, or apt-get install docker-compose"
fi
if [ "${1:-}" != up ]; then
    exec "${compose[@]}" "$@"
fi

[ -f docker.env ] || fail "docker.env is missing in $PWD; bring it back: git checkout $PWD/docker.env"
for name in WHEEL PROGRAM; do
    file=${!name:-}
    [ -z "$file" ] || [ -s "../$file" ] \
        || fail "$name=$file is not a file in $(cd .. && pwd); make it by \`make dist\`, or unset $name to compile it in the image"
done
# Ports that the stack itself holds are not taken.
if [ -z "$("${compose[@]}" ps -q 2>/dev/null)" ]; then
    for name in SQS_PORT=9324 DYNAMODB_PORT=8000 TABLES_PORT=8001; do
        variable=${name%=*}
        port=${!variable:-${name#*=}}
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            fail "port $port is taken; stop what listens there, or take another one: $variable=$((port + 1000))"
        fi
    done
fi
before=$("${compose[@]}" ps -aq 2>/dev/null || true)
status=0
"${compose[@]}" "$@" || status=$?
# 130 is Ctrl-C, after which the containers are stopped, and kept.
if [ "$status" != 0 ] && [ "$status" != 130 ]; then
    [ -z "$before" ] || fail "the stack could not be changed, and what ran of it is left as it is; the lines above say why"
    "${compose[@]}" down >/dev/null 2>&1 || true
    fail "the stack did not start, and nothing of it is left; the lines above say why"
fi
