"""What the demo shows at its end: where each step's files came from, and how long everything took."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from client import CommandFailed, Vh


def lineage(vh: Vh, execution: dict[str, Any]) -> str:
    """A few lines: what ran, with what, in what, and what came out."""
    parameters = "  ".join(f"{name}={value}" for name, value in execution["parameters"].items())
    ran = execution["ran"]
    where = f"image {ran['image_digest'][:26]}" if ran["image_digest"] else f"{ran['interpreter']}, a plain process"
    rows = [("commit", execution["commit"]["identifier"][:25])]
    rows += [("parameters", parameters)] if parameters else []
    rows += [("input", text) for text in _inputs(vh, execution)]
    rows.append(("ran in", where))
    rows += [("output", text) for text in _outputs(execution)]
    lines = [f"\n   #{execution['counter']} {execution['step']}"]
    return "\n".join([*lines, *(f"      {name:<11} {text}" for name, text in rows)])


def summary(executions: Sequence[dict[str, Any]]) -> str:
    """The table of all steps."""
    head = ("step", "status", "waited", "ran", "metrics")
    rows = [head, *(_row(execution) for execution in executions)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["   " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(["", lines[0].rstrip(), "   " + "-" * (len(lines[0]) - 3), *(line.rstrip() for line in lines[1:])])


def verified(folder: Path, outputs: Sequence[dict[str, Any]]) -> str:
    """Says that every file arrived as it was made. Raises `CommandFailed` for one that did not."""
    for output in outputs:
        content = (folder / output["name"]).read_bytes()
        if hashlib.sha256(content).hexdigest() != output["sha256"]:
            raise CommandFailed(f"{output['name']} arrived with {len(content)} bytes that are not the ones stored")
    return ", ".join(f"{output['name']} ({output['size']:,} bytes, sha256 verified)" for output in outputs)


def _inputs(vh: Vh, execution: dict[str, Any]) -> Iterator[str]:
    for given in execution["inputs"]:
        for url in given["urls"]:
            datum = vh.get(f"/api/v0/data/{url.removeprefix('datum://')}/")
            yield f"{given['name']}  {url}  sha256 {datum['sha256'][:12]}"


def _outputs(execution: dict[str, Any]) -> Iterator[str]:
    for output in execution["outputs"]:
        yield f"{output['name']}  {output['size']:,} bytes  sha256 {output['sha256'][:12]}"


def _row(execution: dict[str, Any]) -> tuple[str, ...]:
    waited = (_time(execution["start_time"]) - _time(execution["ctime"])).total_seconds()
    metrics = "  ".join(f"{name} {value}" for name, value in execution["cumulative_metadata"].items())
    return execution["step"], execution["status"], f"{waited:.1f} s", f"{execution['duration']:.1f} s", metrics


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
