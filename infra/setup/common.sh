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

# The index is the one that pip is set to use; the certificates are the system's; nothing is kept outside the clone.
keep_downloads_here() {
    local index
    export UV_CACHE_DIR=${UV_CACHE_DIR:-$CACHE/uv} PIP_CACHE_DIR=${PIP_CACHE_DIR:-$CACHE/pip}
    export UV_PYTHON_DOWNLOADS=never UV_NATIVE_TLS=${UV_NATIVE_TLS:-1} UV_NO_PROGRESS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
    export PIP_ROOT_USER_ACTION=ignore UV_LINK_MODE=${UV_LINK_MODE:-copy}
    unset VIRTUAL_ENV PYTHONPATH PYTHONHOME
    index=${PIP_INDEX_URL:-}
    [ -n "$index" ] || index=$(python3 -m pip config get global.index-url 2>/dev/null || true)
    if [ -n "$index" ] && [ -z "${UV_DEFAULT_INDEX:-}" ]; then export UV_DEFAULT_INDEX=$index; fi
}
