#!/usr/bin/env bash
# Builds what `sam deploy` uploads, into build/: bundle.sh [--python 3.13] [--architecture arm64]; see --help.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../setup/common.sh"

"$ROOT/infra/setup/setup.sh" server
keep_downloads_here
PATH="$CACHE/tools/bin:$PATH" exec "$ROOT/.venv/bin/python" "$ROOT/infra/bundling" "$@"
