# What the setup scripts share: one line per step, one line per failure, and where things are kept. Sourced, not run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=$ROOT/.cache
LOCKS=$ROOT/infra/setup

say() { printf '  %s\n' "$*"; }

# The last words of a failure: what was attempted, what came back, what to try.
die() {
    printf 'lamplighter setup: %s\n' "$*" >&2
    exit 1
}

# quietly WHAT ADVICE COMMAND...: run the command; on failure show the end of what it said, and one line that explains it.
quietly() {
    local what=$1 advice=$2 log
    shift 2
    mkdir -p "$CACHE"
    log=$(mktemp "$CACHE/step.XXXXXX")
    if "$@" >"$log" 2>&1 </dev/null; then
        rm -f "$log"
        return 0
    fi
    tail -n 15 "$log" | sed 's/^/    | /' >&2
    rm -f "$log"
    die "$what failed (${1##*/}). $advice"
}
