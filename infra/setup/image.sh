#!/usr/bin/env bash
# Makes the worker's image for the tests: lamplighter/worker-machine:test for Docker, and .cache/image/{disk.raw,vmlinuz,initrd}.
#
# Root, Debian or Ubuntu. Packages are installed when they are missing; what was made of the same content is left as it is.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

PACKAGES=(mmdebstrap debian-archive-keyring qemu-system-x86 qemu-utils genisoimage e2fsprogs shellcheck packer iproute2)
COMMANDS=(mmdebstrap qemu-system-x86_64 qemu-img genisoimage mkfs.ext4 debugfs shellcheck packer ip)
IMAGE=lamplighter/worker-machine:test
LABEL=io.lamplighter.content
MAKER=$ROOT/worker_ami/image
PLACE=$CACHE/image
KEYS=/usr/share/keyrings/debian-archive-keyring.gpg

main() {
    [ "$(id -u)" = 0 ] || die "the worker's image is made by root only: run make worker as root."
    [ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || die "the worker's image is made for tests on Debian or Ubuntu on amd64 only."
    mkdir -p "$PLACE"
    exec 6>"$PLACE/lock"
    flock 6
    tools
    local content
    content=$(content_key)
    if [ "$(docker image inspect -f "{{index .Config.Labels \"$LABEL\"}}" "$IMAGE" 2>/dev/null)" = "$content" ] &&
        [ "$(cat "$PLACE/content" 2>/dev/null)" = "$content" ]; then return 0; fi
    say "worker image: Debian with what install.sh makes of it (about two minutes the first time)"
    WORK=$(mktemp -d "$PLACE/work.XXXXXX")
    trap 'rm -rf "$WORK"' EXIT
    quietly "bootstrapping the worker's root" "Is Debian's archive reachable? Another one is set with LAMPLIGHTER_DEBIAN_MIRROR." \
        "$MAKER/build_root.sh" "$WORK/root" "$PLACE"
    quietly "importing $IMAGE" "Is there enough disk space?" container "$content"
    quietly "making the worker's disk" "Is there enough disk space?" disk
    echo "$content" >"$PLACE/content"
}

tools() {
    local command
    for command in "${COMMANDS[@]}" "$KEYS"; do
        command -v "$command" >/dev/null 2>&1 || [ -e "$command" ] && continue
        say "worker image: installing its tools with apt-get"
        export DEBIAN_FRONTEND=noninteractive
        quietly "apt-get update" "Are apt's sources reachable?" apt-get update -qq
        quietly "apt-get install" "Are apt's sources reachable?" apt-get install -y -qq --no-install-recommends "${PACKAGES[@]}"
        return
    done
}

content_key() {
    local kit
    kit=$(mktemp -d)
    "$MAKER/kit.sh" "$kit"
    {
        cat "${BASH_SOURCE[0]}" "$MAKER/build_root.sh"
        cd "$kit" && find . -type f -printf '%P %m\n' -exec sha256sum {} +
    } | LC_ALL=C sort | sha256sum | cut -d' ' -f1
    rm -rf "$kit"
}

container() {
    set -o pipefail
    local older
    older=$(docker image inspect -f '{{.Id}}' "$IMAGE" 2>/dev/null || true)
    tar -C "$WORK/root" --numeric-owner --exclude=./boot/* -c . | docker import -c "LABEL $LABEL=$1" \
        -c 'ENV container=docker' -c 'CMD ["/lib/systemd/systemd"]' - "$IMAGE"
    # Kept only while an instance still runs on it.
    [ -z "$older" ] || docker rmi "$older" || true
}

# A disk without a boot loader: the kernel is given to QEMU beside it. A machine that runs on the older disk keeps it.
disk() {
    echo 'LABEL=root / ext4 defaults 0 1' >"$WORK/root/etc/fstab"
    cp "$WORK/root"/boot/vmlinuz-* "$PLACE/vmlinuz"
    cp "$WORK/root"/boot/initrd.img-* "$PLACE/initrd"
    mkfs.ext4 -q -F -d "$WORK/root" -L root "$WORK/disk.raw" 4G
    mv "$WORK/disk.raw" "$PLACE/disk.raw"
}

main "$@"
