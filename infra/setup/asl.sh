#!/usr/bin/env bash
# Installs asl-validator, which checks state machine definitions, into .cache/asl, and Node.js where it is missing.
#
# asl/package-lock.json carries hashes and no addresses; to renew it, after a change of asl/package.json, in that directory:
# npm install --package-lock-only --omit-lockfile-registry-resolved. May be run again at any time.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

HOME_OF_IT=$CACHE/asl
SYSTEM_CERTIFICATES=/etc/ssl/certs/ca-certificates.crt

main() {
    mkdir -p "$CACHE"
    exec 9>"$CACHE/asl.lock"
    flock 9 2>/dev/null || die "another setup holds $CACHE/asl.lock and does not end."
    have node && is_there && return 0
    have node && have npm || install_node
    install
}

have() { command -v "$1" >/dev/null 2>&1; }
is_there() { cmp -s "$LOCKS/asl/package-lock.json" "$HOME_OF_IT/package-lock.json"; }

install_node() {
    [ "$(id -u)" = 0 ] && have apt-get || die "asl-validator needs Node.js and npm: install them, then run this again."
    say "asl: installing nodejs and npm with apt-get"
    export DEBIAN_FRONTEND=noninteractive
    quietly "apt-get update" "Are the package sources reachable?" apt-get update -qq
    quietly "installing nodejs and npm" "Are the package sources reachable?" apt-get install -y -qq --no-install-recommends nodejs npm
}

install() {
    local fresh=$HOME_OF_IT.new
    say "asl: installing asl-validator into .cache/asl"
    rm -rf "$fresh" "$HOME_OF_IT"
    mkdir -p "$fresh"
    # Node trusts its own list of authorities; what the system trusts beside it is named here.
    if [ -z "${NODE_EXTRA_CA_CERTS:-}" ] && [ -r "$SYSTEM_CERTIFICATES" ]; then export NODE_EXTRA_CA_CERTS=$SYSTEM_CERTIFICATES; fi
    cp "$LOCKS/asl/package.json" "$LOCKS/asl/package-lock.json" "$fresh/"
    quietly "installing asl/package-lock.json" "Is the package registry that npm is set to reachable?" \
        npm ci --prefix "$fresh" --cache "$fresh/npm" --ignore-scripts --no-audit --no-fund
    rm -rf "$fresh/npm"
    mv "$fresh" "$HOME_OF_IT"
}

main "$@"
