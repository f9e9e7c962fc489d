#!/usr/bin/env bash
# Builds images from this machine's own CPython, in seconds and without a registry: build.sh TAG...
#
# lamplighter/python:3.11        Python, pip and a shell
# lamplighter/python-utils:3.11  the same with valohai-utils, from .cache/wheels
# lamplighter/digits:1           the same with scikit-learn, for the demo
#
# An image that was made of the same content is left as it is. The tag names the Python that Lamplighter's own
# checks run with; where the clone was set up with a later one, the image holds that one.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../setup/common.sh"

HERE=$ROOT/infra/images
BASE=lamplighter/python:3.11
PYTHON=$ROOT/.venv/bin/python
LABEL=io.lamplighter.content

main() {
    [ $# -gt 0 ] || die "name the images to build: $BASE, lamplighter/python-utils:3.11 or lamplighter/digits:1."
    [ -x "$PYTHON" ] || die "there is no .venv yet: run make setup."
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
    mkdir -p "$CACHE"
    exec 7>"$CACHE/images.lock"
    flock 7
    base
    local tag
    for tag in "$@"; do
        case $tag in
            "$BASE") ;;
            lamplighter/python-utils:3.11) layer "$tag" utils valohai --no-index --find-links "$CACHE/wheels" ;;
            lamplighter/digits:1) layer "$tag" digits sklearn,valohai ;;
            *) die "there is no recipe for the image $tag." ;;
        esac
    done
}

base() {
    BASE_CONTENT=$({ "$PYTHON" -VV; cat "$HERE/rootfs.py" "$HERE/build.sh"; } | sha256sum | cut -d' ' -f1)
    made_of "$BASE" "$BASE_CONTENT" && return 0
    say "images: $BASE from $("$PYTHON" -V)"
    local libraries
    libraries=$("$PYTHON" -c "import sys; sys.path.insert(0, '$HERE'); import rootfs; print(':'.join(['/usr/local/lib', *rootfs.library_places()]))")
    quietly "building $BASE" "Is there enough disk space?" bash -c "set -o pipefail; '$PYTHON' '$HERE/rootfs.py' | docker import \
        -c 'LABEL $LABEL=$BASE_CONTENT' -c 'ENV PATH=/usr/local/bin:/usr/bin:/bin' -c 'ENV LD_LIBRARY_PATH=$libraries' \
        -c 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' -c 'ENV PIP_ROOT_USER_ACTION=ignore' -c 'CMD [\"/bin/sh\"]' - $BASE"
}

# layer TAG LOCK MODULES [OPTIONS OF UV]: the base with the packages of infra/setup/LOCK.lock on top; MODULES must import.
layer() {
    local tag=$1 lock=$LOCKS/$2.lock packages=$WORK/$2/packages content version
    content=$({ echo "$BASE_CONTENT"; cat "$lock"; } | sha256sum | cut -d' ' -f1)
    made_of "$tag" "$content" && return 0
    say "images: $tag"
    version=$("$PYTHON" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    export UV_CACHE_DIR=${UV_CACHE_DIR:-$CACHE/uv} UV_NATIVE_TLS=${UV_NATIVE_TLS:-1}
    quietly "unpacking the packages of $tag" "Run make setup first." \
        "$CACHE/tools/bin/uv" pip install -q --python "$PYTHON" --target "$packages" --link-mode copy --require-hashes "${@:4}" -r "$lock"
    # Compiled once here instead of in every container.
    "$PYTHON" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$packages" >/dev/null || true
    printf 'FROM %s\nLABEL %s=%s\nCOPY packages /usr/local/lib/%s/site-packages\n' "$BASE" "$LABEL" "$content" "$version" \
        >"$WORK/$2/Dockerfile"
    quietly "building $tag" "Is there enough disk space?" docker build -q --network none -t "$tag-unproven" "$WORK/$2"
    quietly "importing $3 in $tag" "Do the packages fit this Python?" docker run --rm --network none "$tag-unproven" python -c "import $3"
    docker tag "$tag-unproven" "$tag"
    docker rmi "$tag-unproven" >/dev/null
}

made_of() { [ "$(docker image inspect -f "{{index .Config.Labels \"$LABEL\"}}" "$1" 2>/dev/null)" = "$2" ]; }

main "$@"
