#!/usr/bin/env bash
# Makes a worker of a Debian 12 machine, or of the root of one: packages by apt, the agent and its units from beside this file.
#
# Run as root from a directory that kit.sh made. May be run again. LAMPLIGHTER_GPU=1 adds NVIDIA's driver and container toolkit.
# Nothing but apt's sources is asked, and nothing at all when all packages are there.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LIBRARY=/usr/lib/lamplighter
# apparmor: without it Docker's own profile for containers is not applied. e2fsprogs and mdadm: for the machine's own disks.
PACKAGES=(ca-certificates python3 docker.io iptables apparmor e2fsprogs mdadm)
UNITS=(lamplighter-{maxlife,deadman}.timer lamplighter-{firewall,scratch,settings,agent}.service docker.service containerd.service)
# They would work, download or wait while somebody pays for the machine; and nobody logs in.
UNWANTED=(apt-daily.timer apt-daily-upgrade.timer unattended-upgrades.service man-db.timer dpkg-db-backup.timer e2scrub_all.timer
    e2scrub_reap.service fstrim.timer mdmonitor.service ssh.service ssh.socket)

NVIDIA=https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64
NVIDIA_KEY=EB693B3035CD5710E231E123A4B469963BF863CC
# Escapes from a container to the machine: CVE-2024-0132 and CVE-2025-23359 (fixed in 1.17.4), CVE-2025-23266 (1.17.8),
# CVE-2026-24260 (1.19.1).
NVIDIA_TOOLKIT_AT_LEAST=1.19.1

main() {
    [ "$(id -u)" = 0 ] || die "this must be run as root: sudo $0"
    grep -q '^VERSION_ID="12"' /etc/os-release || die "this is not Debian 12: start from its cloud image."
    step "packages" packages "${PACKAGES[@]}"
    step "agent" agent
    step "files" files
    if [ "${LAMPLIGHTER_GPU:-}" = 1 ]; then step "NVIDIA" nvidia; fi
    step "units" units
    step "cleaning" clean
    say "done: $(python3 --version), $(dpkg-query -W -f 'docker ${Version}' docker.io)"
}

step() {
    say "$1"
    shift
    "$@"
}
say() { printf 'lamplighter image: %s\n' "$*"; }
die() {
    say "$*" >&2
    exit 1
}

# Only what is missing is asked for, so that a second run needs no network.
packages() {
    local missing=() package
    for package; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# Compiled here once; a file that changes under its bytecode is not noticed, and none does.
agent() {
    local new=$LIBRARY/agent.new
    rm -rf "$new"
    mkdir -p "$new"
    tar -C "$HERE/agent" --owner=0 --group=0 --mode='u=rwX,go=rX' -c . | tar -C "$new" -x
    python3 -m compileall -q --invalidation-mode unchecked-hash -s "$new" -p "$LIBRARY/agent" "$new"
    rm -rf "$LIBRARY/agent"
    mv "$new" "$LIBRARY/agent"
    PYTHONPATH=$LIBRARY/agent python3 -P -m lamplighter_worker.main run --help >/dev/null
}

files() {
    local file mode
    while IFS= read -r -d '' file; do
        mode=0644
        [ ! -x "$HERE/files/$file" ] || mode=0755
        install -D -o root -g root -m "$mode" "$HERE/files/$file" "/$file"
    done < <(cd "$HERE/files" && find . -type f -printf '%P\0')
    install -d -m 0700 /var/lib/lamplighter
}

# Not tried on a machine with a GPU by the project's own tests, which have none.
nvidia() {
    [ "$(dpkg --print-architecture)" = amd64 ] || die "NVIDIA's driver is installed on amd64 only."
    packages curl gpg
    local key=/usr/share/keyrings/lamplighter-nvidia.gpg fetched found
    fetched=$(mktemp)
    curl -fsSL --proto '=https' --tlsv1.2 -o "$fetched" "$NVIDIA/3bf863cc.pub"
    found=$(gpg --show-keys --with-colons "$fetched" | awk -F: '$1 == "fpr" { print $10 }')
    [ "$found" = "$NVIDIA_KEY" ] || die "NVIDIA's key is not the one that is known: $found, not $NVIDIA_KEY. Nothing was installed from there."
    rm -f "$key"
    gpg --dearmor -o "$key" "$fetched"
    rm -f "$fetched"
    # The driver's packages need one of Debian's own from contrib.
    echo "deb [signed-by=$key] $NVIDIA /" >/etc/apt/sources.list.d/lamplighter-nvidia.list
    echo "deb http://deb.debian.org/debian bookworm contrib" >/etc/apt/sources.list.d/lamplighter-contrib.list
    packages linux-headers-cloud-amd64 nvidia-kernel-open-dkms nvidia-driver-cuda nvidia-container-toolkit
    found=$(dpkg-query -W -f '${Version}' nvidia-container-toolkit)
    dpkg --compare-versions "$found" ge "$NVIDIA_TOOLKIT_AT_LEAST" ||
        die "nvidia-container-toolkit $found lets containers out; $NVIDIA_TOOLKIT_AT_LEAST or later is needed."
    nvidia-ctk runtime configure --runtime=docker
}

units() {
    # A unit that is masked while it is enabled leaves its other names behind.
    if [ -e /lib/systemd/system/ssh.service ]; then systemctl disable -q ssh.service ssh.socket; fi
    systemctl mask -q "${UNWANTED[@]}"
    systemctl enable -q "${UNITS[@]}"
}

# What belongs to this machine and not to those that are started from it.
clean() {
    if [ -d /run/systemd/system ]; then systemctl stop docker.socket docker.service containerd.service; fi
    rm -rf /var/lib/docker/* /var/lib/containerd/* /var/lib/lamplighter/*
    rm -rf /var/lib/cloud/* /var/log/cloud-init*.log /etc/lamplighter/worker.json
    rm -f /etc/ssh/ssh_host_*_key* /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys
    rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed
    : >/etc/machine-id
    apt-get clean
    rm -rf /var/lib/apt/lists/* /var/log/journal/*
    # What this image consists of, for whoever has to know whether a fault in a package concerns it.
    dpkg-query -W -f '${Package} ${Version} ${Architecture}\n' | LC_ALL=C sort >"$LIBRARY/packages.txt"
}

main "$@"
