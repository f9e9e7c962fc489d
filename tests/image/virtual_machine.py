"""The worker's disk booted by QEMU: a true kernel on emulated hardware, which is slow, and needs no rights."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

BUILT = Path(__file__).resolve().parents[2] / ".cache" / "image"

HOST = "10.0.2.2"
"""Where the machine reaches the loopback of this one."""

MODEL = "QEMU NVMe Ctrl"
"""How the machine's own disks call themselves."""

OWN_DISKS = ("own-1", "own-2")

_NETWORK = {"version": 2, "ethernets": {"eth0": {"dhcp4": True}}}
_KERNEL = "root=/dev/vda rw console=ttyS0 net.ifnames=0 systemd.show_status=0"


class VirtualMachine:
    """One machine with a disk of its own that starts as the image's, and two NVMe disks beside it. `is_on` until it powers off."""

    def __init__(self, name: str, user_data: str) -> None:
        self.name = name
        self.instance_id = name
        self.started_at = 0.0
        self._user_data = user_data
        self._files = Path()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> VirtualMachine:
        """Powers it on."""
        assert (BUILT / "disk.raw").exists(), f"there is no disk in {BUILT}: run `make worker` as root"
        self._files = Path(tempfile.mkdtemp(prefix="lamplighter-machine-"))
        self._make_seed()
        self._run("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(BUILT / "disk.raw"), "-F", "raw", "root")
        for disk in OWN_DISKS:
            self._run("qemu-img", "create", "-q", "-f", "qcow2", disk, "1G")
        # Without -no-shutdown and with -no-reboot the process ends when the machine does.
        command = ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-m", "1024", "-smp", "2"]
        command += ["-nographic", "-no-reboot", "-kernel", str(BUILT / "vmlinuz"), "-initrd", str(BUILT / "initrd")]
        command += ["-append", _KERNEL]
        command += ["-drive", "file=root,if=virtio,format=qcow2,cache=unsafe"]
        command += ["-drive", "file=seed.iso,if=virtio,format=raw,readonly=on"]
        for disk in OWN_DISKS:
            command += ["-drive", f"file={disk},if=none,id={disk},format=qcow2,cache=unsafe"]
            command += ["-device", f"nvme,drive={disk},serial={disk}"]
        command += ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net"]
        self.started_at = time.time()
        with (self._files / "console").open("wb") as console:
            self._process = subprocess.Popen(
                command, cwd=self._files, stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        return self

    def logs(self) -> str:
        """What its console has shown."""
        console = self._files / "console"
        return console.read_text("utf-8", "replace") if console.exists() else ""

    @property
    def is_on(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_off(self, seconds: float) -> None:
        """Returns when it has powered off. Raises `AssertionError` with its console when it does not in time."""
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} is still on after {seconds:g} s:\n{self.logs()}") from None

    def stop(self) -> None:
        """Removes it; repeatable."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._files != Path():
            shutil.rmtree(self._files, ignore_errors=True)

    def _make_seed(self) -> None:
        seed = self._files / "seed"
        seed.mkdir()
        (seed / "user-data").write_text(self._user_data)
        (seed / "meta-data").write_text(f"instance-id: {self.name}\n")
        (seed / "network-config").write_text(json.dumps(_NETWORK))
        self._run("genisoimage", "-quiet", "-output", "seed.iso", "-volid", "cidata", "-joliet", "-rock", "seed")

    def _run(self, *command: str) -> None:
        ran = subprocess.run(command, cwd=self._files, capture_output=True, text=True, timeout=120, check=False)
        assert ran.returncode == 0, f"{' '.join(command)}: {ran.stderr}"
