#!/usr/bin/env bash
# Makes a Docker engine answer, if that is possible here: finds one, or installs it (root, Debian or Ubuntu) and starts it.
#
# Leaves the engine running. Exit code 0 when it answers, 1 with one line that says why not.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

TOOLS="busybox-static docker-registry apache2-utils git openssh-client openssh-server"
PACKAGES="docker.io iptables $TOOLS"
LOG=$CACHE/dockerd.log
WAIT_SECONDS=20

main() {
    mkdir -p "$CACHE"
    # Two calls at the same time must not start two engines.
    exec 8>"$CACHE/docker.lock"
    flock 8
    if ! answers; then
        [ "$(uname -s)" = Linux ] || die "no Docker engine answers: start Docker, or go on with plain processes."
        [ "$(id -u)" = 0 ] || die "no Docker engine answers this user: start it (systemctl start docker), or add the user to the group docker."
        have docker && have dockerd || install
        start
    fi
    tools_of_tests
}

answers() { timeout 15 docker info >/dev/null 2>&1 8>&-; }
have() { command -v "$1" >/dev/null 2>&1; }

install() {
    have apt-get || die "there is no dockerd here: install Docker (https://docs.docker.com/engine/install/) and run this again."
    say "docker: installing with apt-get"
    apt_get $PACKAGES || die "apt-get could not install $PACKAGES: see $CACHE/apt.log. Install a Docker engine and run this again."
}

# What tests and images use beside the engine; without root, images are built only where busybox is there already.
tools_of_tests() {
    have busybox && have docker-registry && have htpasswd && have git && have ssh && [ -x /usr/sbin/sshd ] && return 0
    [ "$(id -u)" = 0 ] && have apt-get || return 0
    say "docker: installing what the tests use beside it with apt-get"
    apt_get $TOOLS || say "docker: apt-get could not install them, see $CACHE/apt.log"
}

apt_get() {
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } >"$CACHE/apt.log" 2>&1 </dev/null 8>&-
}

start() {
    if have systemctl && [ -d /run/systemd/system ]; then
        systemctl start docker >/dev/null 2>&1 8>&- || true
        answers && return 0
    fi
    have dockerd || die "there is no dockerd here, only the docker command: install a Docker engine."
    say "docker: starting dockerd, log in ${LOG#"$ROOT"/}"
    setsid dockerd </dev/null >"$LOG" 2>&1 8>&- 9>&- &
    local engine=$! deadline=$((SECONDS + WAIT_SECONDS))
    until answers; do
        if ! kill -0 "$engine" 2>/dev/null || [ $SECONDS -ge $deadline ]; then
            tail -n 8 "$LOG" | sed 's/^/    | /' >&2
            die "dockerd does not answer here (${LOG#"$ROOT"/} says why). A container without the rights to run containers is the usual reason."
        fi
        sleep 0.1
    done
    disown "$engine"
}

main "$@"
