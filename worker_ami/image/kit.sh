#!/usr/bin/env bash
# Gathers what a machine needs to become a worker into one directory: kit.sh DIRECTORY. Run install.sh there, as root.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)

kit=${1:?where to? kit.sh DIRECTORY}
rm -rf "$kit"
mkdir -p "$kit/agent/lamplighter"
cp -R "$HERE/install.sh" "$HERE/files" "$kit/"
cp -R "$ROOT/worker_ami/lamplighter_worker" "$kit/agent/"
# Of the library, the agent uses the contract and the errors alone.
cp -R "$ROOT/lamplighter/"{__init__.py,errors.py,contract} "$kit/agent/lamplighter/"
find "$kit" -name __pycache__ -type d -prune -exec rm -rf {} +
