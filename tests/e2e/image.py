"""The image that steps name in tests: this machine's own CPython with the real valohai-utils, made without a registry."""

from __future__ import annotations

import fcntl
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

from tests.docker import ensure_docker
from tests.e2e.server import CLIENTS

IMAGE = "lamplighter/python-utils:3.11"

_SKIPPED = {"__pycache__", "site-packages", "test", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip"}
# Wheels want most of these; the C library opens the last ones by name when it resolves hosts.
_BY_NAME = (
    "libgcc_s.so.1",
    "libstdc++.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libm.so.6",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libresolv.so.2",
)


def ensure_image() -> str:
    """The tag of an image with `python`, `sh` and valohai-utils; made when it is not there yet, once among parallel tests."""
    ensure_docker()
    with (Path(tempfile.gettempdir()) / "lamplighter-test-image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, timeout=60, check=False)
        if known.returncode != 0:
            _make()
    return IMAGE


def _make() -> None:
    libraries = ":".join(_library_places())
    changes = ["ENV PATH=/usr/local/bin:/usr/bin:/bin", f"ENV LD_LIBRARY_PATH={libraries}"]
    command = ["docker", "import", *(word for change in changes for word in ("-c", change)), "-", IMAGE]
    subprocess.run(command, input=_root(), capture_output=True, timeout=300, check=True)


def _root() -> bytes:
    """The root directory of the image, as a tar file."""
    packed = io.BytesIO()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    standard = Path(sysconfig.get_paths()["stdlib"])
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in ("tmp", "root", "proc", "sys", "dev", "etc"):
            _directory(tar, name)
        tar.add(os.path.realpath(_interpreter()), "usr/local/bin/python3", filter=_as_root)
        _link(tar, "usr/local/bin/python", "python3")
        tar.add(standard, f"usr/local/lib/{version}", filter=_slim)
        packages = CLIENTS.parent / "lib" / version / "site-packages"
        tar.add(packages, f"usr/local/lib/{version}/site-packages", filter=_without_caches)
        _shell(tar)
        for library in _libraries(standard):
            tar.add(os.path.realpath(library), library.lstrip("/"), filter=_as_root)
        _file(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        _file(tar, "etc/group", b"root:x:0:\n")
        _file(tar, "etc/nsswitch.conf", b"hosts: files dns\n")
    return packed.getvalue()


def _interpreter() -> str:
    return os.path.join(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")


def _libraries(standard: Path) -> list[str]:
    """The shared libraries that the interpreter and its modules load, by the paths where they look for them."""
    modules = [_interpreter(), *map(str, (standard / "lib-dynload").glob("*.so"))]
    listed = subprocess.run(["ldd", *modules], capture_output=True, text=True, timeout=120, check=False).stdout
    found = set(re.findall(r"(/\S+\.so[.0-9]*) \(0x", listed))
    found |= {f"{place}/{name}" for place in _library_places() for name in _BY_NAME if Path(place, name).exists()}
    return sorted(found)


def _library_places() -> list[str]:
    return [f"/lib/{sysconfig.get_config_var('MULTIARCH')}", "/lib64", str(sysconfig.get_config_var("LIBDIR"))]


def _shell(tar: tarfile.TarFile) -> None:
    busybox = shutil.which("busybox")
    assert busybox, "there is no busybox for the image's shell: run `make setup`"
    tar.add(busybox, "bin/busybox", filter=_as_root)
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, timeout=30, check=True).stdout.split()
    for name in sorted(set(names) - {"busybox"}):
        _link(tar, f"bin/{name}", "busybox")


def _directory(tar: tarfile.TarFile, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
    tar.addfile(info)


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    tar.addfile(info)


def _file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    tar.addfile(info, io.BytesIO(content))


def _as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    return info


def _slim(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = os.path.basename(info.name)
    return None if name in _SKIPPED or name.startswith("config-") else _as_root(info)


def _without_caches(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if os.path.basename(info.name) == "__pycache__" else _as_root(info)
