#!/usr/bin/env bash
# Installs what a clone needs into its own ignored folders: setup.sh [PART...]; by default server, clients and digits.
#
# server   .venv            Lamplighter itself with its dependencies and the tools of its tests
# clients  .cache/clients   the unmodified vh and valohai-utils; .cache/wheels holds the latter for images
# digits   .cache/digits    scikit-learn, for the demo's steps where there is no Docker
#
# emulators   .cache/emulators   the AWS emulator of the tests, with what the functions that it runs import
# sam         .cache/sam         the AWS SAM CLI and cfn-lint, which check template.yaml and deploy it
# aws         .cache/aws         the AWS CLI, with which operators look after a stack
#
# May be run again at any time: a part whose lock file has not changed since is left as it is.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

NETWORK="Is the package index reachable? A mirror is set with PIP_INDEX_URL (or pip's own configuration)."

main() {
    local part
    [ $# -gt 0 ] || set -- server clients digits
    mkdir -p "$CACHE/stamps"
    exec 9>"$CACHE/setup.lock"
    flock 9 2>/dev/null || die "another setup holds $CACHE/setup.lock and does not end."
    for part in "$@"; do
        case $part in
            server) server ;;
            clients) clients ;;
            digits) digits ;;
            emulators) emulators ;;
            sam) sam ;;
            aws) aws ;;
            *) die "there is no part '$part': name server, clients, digits, emulators, sam or aws." ;;
        esac
    done
}

server() {
    fresh server "$ROOT/requirements.lock" "$ROOT/pyproject.toml" "$ROOT/worker_ami/pyproject.toml" && [ -x "$ROOT/.venv/bin/lamplighter" ] && return 0
    tools
    say "server: installing from requirements.lock into .venv"
    make_venv "$ROOT/.venv"
    quietly "installing requirements.lock" "$NETWORK" \
        uv pip sync -q --require-hashes --python "$ROOT/.venv/bin/python" "$ROOT/requirements.lock"
    quietly "installing this clone" "Look at pyproject.toml." \
        uv pip install -q --no-deps --python "$ROOT/.venv/bin/python" -e "$ROOT" -e "$ROOT/worker_ami"
    done_with server
}

clients() {
    fresh clients "$LOCKS/clients.lock" "$LOCKS/utils.lock" && [ -x "$CACHE/clients/bin/vh" ] && return 0
    tools
    say "clients: installing vh and valohai-utils into .cache/clients"
    make_venv "$CACHE/clients"
    quietly "installing clients.lock" "$NETWORK" \
        uv pip sync -q --require-hashes --python "$CACHE/clients/bin/python" "$LOCKS/clients.lock"
    rm -rf "$CACHE/wheels"
    quietly "downloading the wheels of valohai-utils" "$NETWORK" \
        pip download -q --require-hashes --only-binary :all: -r "$LOCKS/utils.lock" -d "$CACHE/wheels"
    done_with clients
}

digits() { of_one_lock digits python "scikit-learn"; }
emulators() { of_one_lock emulators ministack "the AWS emulator"; }
sam() { of_one_lock sam sam "the AWS SAM CLI and cfn-lint"; }
aws() { of_one_lock aws aws "the AWS CLI"; }

# of_one_lock PART PROGRAM WHAT: .cache/PART with what PART.lock pins, unless its PROGRAM is there from that very lock.
of_one_lock() {
    local part=$1 program=$2 what=$3
    fresh "$part" "$LOCKS/$part.lock" && [ -x "$CACHE/$part/bin/$program" ] && return 0
    tools
    say "$part: installing $what into .cache/$part"
    make_venv "$CACHE/$part"
    quietly "installing $part.lock" "$NETWORK" \
        uv pip sync -q --require-hashes --python "$CACHE/$part/bin/python" "$LOCKS/$part.lock"
    done_with "$part"
}

# fresh PART FILE...: whether PART was installed from these very files. Leaves their digest in $digest for done_with.
fresh() {
    local part=$1
    shift
    digest=$(cat "$@" | sha256sum | cut -d' ' -f1)
    [ "$(cat "$CACHE/stamps/$part" 2>/dev/null)" = "$digest" ]
}

done_with() { printf '%s\n' "$digest" >"$CACHE/stamps/$1"; }

# uv at its pinned version, with the pip that brought it, in a place of their own.
tools() {
    local python wanted
    keep_downloads_here
    export PATH="$CACHE/tools/bin:$PATH"
    wanted=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' "$LOCKS/tools.lock")
    case "$("$CACHE/tools/bin/uv" --version 2>/dev/null)" in "uv $wanted"*) return 0 ;; esac
    python=$(find_python) || die "no Python 3.11 or later that can make virtual environments was found. On Debian and Ubuntu: apt-get install python3-venv"
    say "tools: uv $wanted with $("$python" -V) into .cache/tools"
    quietly "making $CACHE/tools" "On Debian and Ubuntu: apt-get install python3-venv" "$python" -m venv --clear "$CACHE/tools"
    quietly "installing uv" "$NETWORK" \
        "$CACHE/tools/bin/pip" install -q --disable-pip-version-check --require-hashes -r "$LOCKS/tools.lock"
}

find_python() {
    local name
    for name in python3.11 python3 python3.12 python3.13 python3.14 /usr/bin/python3; do
        command -v "$name" >/dev/null 2>&1 || continue
        if "$name" -c 'import sys, venv, ensurepip; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null; then
            # Not the name on PATH: that may be a wrapper which another setting turns into another Python.
            "$name" -c 'import os, sys; print(os.path.realpath(sys.executable))'
            return 0
        fi
    done
    return 1
}

make_venv() {
    [ -x "$1/bin/python" ] && return 0
    quietly "making $1" "On Debian and Ubuntu: apt-get install python3-venv" \
        uv venv -q --clear --python "$CACHE/tools/bin/python" "$1"
}

main "$@"
