"""Bundles as zip files that come out the same, byte for byte, whoever builds them and when."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

_THEN = (1980, 1, 1, 0, 0, 0)


def write_zip(target: Path, files: Mapping[str, Path]) -> int:
    """Write the files in order of their names, all dated alike; the size of the zip in bytes."""
    partly = target.with_suffix(".partly")
    with zipfile.ZipFile(partly, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _THEN)
            entry.compress_type = zipfile.ZIP_DEFLATED
            executable = os.access(files[name], os.X_OK)
            entry.external_attr = (0o100755 if executable else 0o100644) << 16
            archive.writestr(entry, files[name].read_bytes(), compresslevel=9)
    partly.replace(target)
    return target.stat().st_size


def tree(folder: Path, prefix: str = "") -> dict[str, Path]:
    """Every file below `folder`, by its path in an archive."""
    return {f"{prefix}{p.relative_to(folder).as_posix()}": p for p in folder.rglob("*") if p.is_file()}
