"""Writes the root of a small Linux image to standard output as a tar: this machine's own CPython, pip and a shell."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
HOME = "usr/local"
LEFT_OUT = (
    *("__pycache__", "config-*", "site-packages", "dist-packages"),
    *("test", "tests", "idlelib", "lib2to3", "tkinter", "turtledemo"),
)
# Wheels from the package index expect the first ones on every Linux; the C library opens the last ones by name.
EXPECTED = (
    *("libgcc_s.so.1", "libstdc++.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1"),
    *("libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"),
)
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def main() -> None:
    """Raises `SystemExit` with one line when something that the image needs is not here."""
    busybox = shutil.which("busybox")
    if not busybox:
        raise SystemExit(
            "images: there is no busybox for the image's shell. On Debian and Ubuntu: apt-get install busybox-static"
        )
    standard = Path(sysconfig.get_paths()["stdlib"])
    interpreter = Path(sys.base_prefix, "bin", VERSION)
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
        for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr/bin", f"{HOME}/bin"):
            _directory(tar, name)
        tar.add(interpreter.resolve(), f"{HOME}/bin/{VERSION}", filter=_of_root)
        for name in ("python3", "python"):
            _link(tar, f"{HOME}/bin/{name}", VERSION)
        _standard_library(tar, standard)
        _directory(tar, f"{HOME}/lib/{VERSION}/site-packages")
        # Where Debian's Python looks for packages.
        _link(tar, f"{HOME}/lib/{VERSION}/dist-packages", "site-packages")
        _pip(tar, standard)
        _shell(tar, busybox)
        for library in _libraries([interpreter, Path(busybox), *(standard / "lib-dynload").glob("*.so")]):
            tar.add(library.resolve(), str(library).lstrip("/"), filter=_of_root)
        _accounts(tar)


def _standard_library(tar: tarfile.TarFile, standard: Path) -> None:
    """Compiled here once: a container cannot keep what it compiles, and would do it again at every start."""
    with tempfile.TemporaryDirectory() as work:
        copy = Path(work, VERSION)
        shutil.copytree(standard, copy, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
        mode = ("-q", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "-s", work, "-p", f"/{HOME}/lib")
        subprocess.run([sys.executable, "-m", "compileall", *mode, str(copy)], stdout=sys.stderr, check=False)
        tar.add(copy, f"{HOME}/lib/{VERSION}", filter=_of_root)


def _pip(tar: tarfile.TarFile, standard: Path) -> None:
    """The pip that this Python bundles; distributions that unbundle it give an image without."""
    for wheel in sorted((standard / "ensurepip" / "_bundled").glob("pip-*.whl"))[-1:]:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                _file(tar, f"{HOME}/lib/{VERSION}/site-packages/{member.filename}", archive.read(member))
        _file(tar, f"{HOME}/bin/pip", b'#!/bin/sh\nexec python3 -m pip "$@"\n', mode=0o755)


def _shell(tar: tarfile.TarFile, busybox: str) -> None:
    tar.add(Path(busybox).resolve(), "bin/busybox", filter=_of_root)
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in sorted({*listed, "sh", "env"} - {"busybox"}):
        _link(tar, f"bin/{name}", "busybox")
    _link(tar, "usr/bin/env", "/bin/env")


def _libraries(programs: list[Path]) -> list[Path]:
    """What the programs are linked with, by the paths where they look for it."""
    asked = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False)
    found = {Path(path) for path in re.findall(r"(/\S+) \(0x", asked.stdout)}
    return sorted(found | set(_expected()))


def _expected() -> Iterator[Path]:
    for name in EXPECTED:
        for place in library_places():
            if Path(place, name).exists():
                yield Path(place, name)
                break


def library_places() -> list[str]:
    """Where this machine keeps its libraries, and so the image."""
    architecture = sysconfig.get_config_var("MULTIARCH")
    places = [f"/lib/{architecture}", f"/usr/lib/{architecture}", "/lib64", "/usr/lib64", "/lib", "/usr/lib"]
    return [place for place in places if Path(place).is_dir()]


def _accounts(tar: tarfile.TarFile) -> None:
    _file(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    _file(tar, "etc/group", b"root:x:0:\n")
    _file(tar, "etc/nsswitch.conf", b"hosts: files dns\n")
    if CERTIFICATES.exists():
        _file(tar, str(CERTIFICATES).lstrip("/"), CERTIFICATES.read_bytes())


def _directory(tar: tarfile.TarFile, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
    tar.addfile(info)


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    tar.addfile(info)


def _file(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))


def _of_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info


if __name__ == "__main__":
    main()
