"""Archives of code: looked into, bounded, and kept by content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lamplighter import archives
from lamplighter.errors import AlreadyWritten, Invalid, TooLarge
from lamplighter.world import World

MAX_CONFIG_BYTES = 256 * 1024
"""The parsed `valohai.yaml` lives in the commit's record, which has a limit of its own."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Package:
    """An archive whose bytes were hashed as they came in. `open` gives them from the start, each time anew."""

    open: Callable[[], BinaryIO]
    sha256: str
    size: int

    @classmethod
    def at(cls, path: Path) -> Package:
        """The file at `path`, hashed now."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(lambda: path.open("rb"), digest, path.stat().st_size)


def refuse_size(package: Package, *, world: World) -> None:
    """Raises `TooLarge` for more than the installation takes, `Invalid` for a package without a digest."""
    limit = world.installation.max_upload_bytes
    if package.size > limit:
        raise TooLarge(
            f"The package has {package.size} bytes; this installation takes {limit}. Leave large files out of it "
            "(.vhignore), pass them as inputs, or use a git repository."
        )
    if not _SHA256.fullmatch(package.sha256):
        raise Invalid({"data": ["The package came without the SHA-256 of its bytes."]})


def read_config(package: Package, yaml_path: str, *, world: World) -> tuple[Any, ...]:
    """The checked `valohai.yaml` of the package. Raises `Invalid` under "data", "yaml_path" or "yaml"."""
    with package.open() as stream:
        text = archives.inspect(stream, wanted=yaml_path).wanted
    if text is None:
        raise Invalid({"yaml_path": [f'There is no file "{yaml_path}" in the code.']})
    config = tuple(world.blueprints.read(text))
    size = len(json.dumps(config, ensure_ascii=False).encode())
    if size > MAX_CONFIG_BYTES:
        raise Invalid({"yaml": [f"{yaml_path} unfolds to {size} bytes; at most {MAX_CONFIG_BYTES} can be kept."]})
    return config


def store_archive(package: Package, project_id: str, *, world: World) -> str:
    """Put it into the default store; its key there, which goes by content. Repeatable.

    Done before a record is written, so that no record ever points at nothing.
    """
    key = f"code/{project_id}/{package.sha256}.tgz"
    try:
        with package.open() as stream:
            world.stores.named(world.stores.home("code")).put(key, stream, size=package.size)
    except AlreadyWritten:
        # Whoever was first wrote the same bytes.
        return key
    return key
