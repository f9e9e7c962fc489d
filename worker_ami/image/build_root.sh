#!/usr/bin/env bash
# Bootstraps the root of a worker without a cloud: build_root.sh DIRECTORY [CACHE]. As root, with mmdebstrap.
#
# The Debian that cloud images have is bootstrapped, then install.sh runs in it, unchanged. The result of the first time is
# kept in CACHE until install.sh or this file changes; later changes of the agent or of files are installed on top of it.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SUITE=bookworm
MIRROR=${LAMPLIGHTER_DEBIAN_MIRROR:-http://deb.debian.org/debian}
# What a Debian cloud image has before install.sh, as far as a worker uses it.
BASE=(systemd-sysv udev dbus cloud-init openssh-server ca-certificates python3 iproute2 isc-dhcp-client ifupdown netbase curl)

main() {
    local root=${1:?where to? build_root.sh DIRECTORY [CACHE]} cache=${2:-} key kept
    KIT=$(mktemp -d)
    trap 'rm -rf "$KIT"' EXIT
    "$HERE/kit.sh" "$KIT"
    mkdir -p "$root"
    if [ -z "$cache" ]; then
        bootstrap "$root"
        return
    fi
    key=$({ echo "$MIRROR"; cat "$HERE/install.sh" "$HERE/build_root.sh"; } | sha256sum | cut -c1-16)
    kept=$cache/base-$key.tar
    if [ ! -e "$kept" ]; then
        rm -f "$cache"/base-*.tar
        bootstrap "$root"
        tar -C "$root" --numeric-owner --xattrs --one-file-system -cf "$kept.new" .
        mv "$kept.new" "$kept"
        return
    fi
    tar -C "$root" --numeric-owner --xattrs -xf "$kept"
    install_in "$root"
}

bootstrap() {
    local packages
    packages=$(IFS=,; echo "linux-image-cloud-$(dpkg --print-architecture),${BASE[*]}")
    mmdebstrap --mode=root --format=directory --variant=apt --skip=output/mknod --include="$packages" "$SUITE" "$1" "$MIRROR"
    install_in "$1"
}

# The mounts live in a namespace of their own and go with it, whatever happens.
install_in() {
    local root=$1
    rm -rf "$root/tmp/kit"
    cp -R "$KIT" "$root/tmp/kit"
    # Packages must not start what they install.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    # shellcheck disable=SC2016 # expanded by the inner shell
    unshare --mount --propagation private sh -euc '
        mount -t proc proc "$1/proc"
        mount --rbind /dev "$1/dev"
        mount -t tmpfs tmpfs "$1/run"
        touch "$1/etc/resolv.conf"
        mount --bind "$(readlink -f /etc/resolv.conf)" "$(readlink -f "$1/etc/resolv.conf")"
        exec chroot "$1" /tmp/kit/install.sh
    ' sh "$root"
    rm -rf "$root/tmp/kit" "$root/usr/sbin/policy-rc.d"
}

main "$@"
