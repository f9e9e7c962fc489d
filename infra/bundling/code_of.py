"""Our own code in a function's bundle: what its entry imports, directly or not, and nothing else."""

from __future__ import annotations

from pathlib import Path

import grimp
from plan import Function

PACKAGES = ("lamplighter", "adapters", "functions")


class Unbuildable(Exception):
    """A bundle cannot be made; the text says why and what to do."""


class Code:
    """The modules of a clone and how they import each other, imports inside functions included."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)

    def modules(self, function: Function) -> list[str]:
        """Every module that the function may ever load, parents included, sorted. Raises `Unbuildable`."""
        found: set[str] = set()
        for name in (function.entry, *function.by_name):
            for start in self._meant(name):
                found |= {start} | self._graph.find_upstream_modules(start)
        for module in list(found):
            parts = module.split(".")
            found |= {".".join(parts[:n]) for n in range(1, len(parts))}
        return sorted(found)

    def _meant(self, name: str) -> set[str]:
        package = name.removesuffix(".*")
        if package not in self._graph.modules:
            raise Unbuildable(f"there is no module {package}: infra/bundling/plan.py names it")
        return {package} if package == name else self._graph.find_descendants(package)

    def files(self, function: Function) -> dict[str, Path]:
        """Where each file of the bundle lies now, by its path in the bundle."""
        files = {}
        for module in self.modules(function):
            relative = Path(*module.split("."))
            package = relative / "__init__.py"
            inside = package if (self._root / package).is_file() else relative.with_suffix(".py")
            if (self._root / inside).is_file():
                files[inside.as_posix()] = self._root / inside
        for folder in function.folders:
            for path in sorted((self._root / folder).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    files[path.relative_to(self._root).as_posix()] = path
        return files
