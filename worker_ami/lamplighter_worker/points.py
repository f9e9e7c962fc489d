"""Finds metadata points among stdout lines: JSON objects, at most fifty a second, the newest values never lost."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

PER_SECOND = 50
MOST_KEYS = 10_000
BURST_SECONDS = 60.0
_LONGEST = 1024 * 1024


class Points:
    """Reads points from lines, and tells `watch` the newest value per key whenever a point came."""

    def __init__(
        self,
        say: Callable[[str, str], None],
        watch: Callable[[Mapping[str, Any]], None] | None,
        counted_at: float | None = None,
    ) -> None:
        """`say(text, metadata)` writes a status line that carries a point, given as JSON.

        `counted_at` is when an earlier agent captured last.
        """
        self._say = say
        self._watch = watch
        self._newest: dict[str, Any] = {}
        self._allowance = float(PER_SECOND)
        self._counted_at = counted_at
        self._dropped = 0
        self._dropped_newest: dict[str, Any] = {}
        self._burst_since = 0.0

    def tick(self, now: float) -> None:
        """Called often. Time in which nothing was captured counts too: what was printed meanwhile had its own seconds."""
        self._allowance += PER_SECOND * (now - self._counted_at if self._counted_at is not None else 0.0)
        self._counted_at = now
        calm = self._allowance >= PER_SECOND
        if self._dropped and (calm or now - self._burst_since > BURST_SECONDS):
            self.flush()

    def caught_up(self) -> None:
        """All that was printed so far was seen: from here on one second's worth may come at once."""
        self._allowance = min(self._allowance, float(PER_SECOND))

    def flush(self) -> None:
        """One warning for a burst, which carries the newest of the values that were dropped."""
        if not self._dropped:
            return
        text = (
            f"Metadata came faster than {PER_SECOND} points a second: {self._dropped} points were dropped, their newest"
            " values are kept. Print fewer, larger points."
        )
        self._say(text, to_json(self._dropped_newest))
        self._dropped, self._dropped_newest = 0, {}

    def find(self, lines: Sequence[str]) -> list[tuple[int, str]]:
        """Which of `lines` are points that are kept: their index, and the object as JSON."""
        found: list[tuple[int, str]] = []
        for index, line in enumerate(lines):
            if line.lstrip(" \t")[:1] == "{" and (point := parse(line)) is not None:
                self._see(point)
                if self._allowance >= 1:
                    self._allowance -= 1
                    found.append((index, to_json(point)))
                else:
                    self._drop(point)
        return found

    def _see(self, point: Mapping[str, Any]) -> None:
        if self._watch is not None:
            _merge(self._newest, point)
            self._watch(self._newest)

    def _drop(self, point: Mapping[str, Any]) -> None:
        if not self._dropped:
            self._burst_since = self._counted_at or 0.0
        self._dropped += 1
        _merge(self._dropped_newest, point)


def parse(line: str) -> dict[str, Any] | None:
    """The JSON object that a line is, with NaN and infinities as null; None for any other line."""
    if len(line) > _LONGEST:
        return None
    try:
        value = json.loads(line)
        if "N" in line or "I" in line or "e" in line or "E" in line:
            value = _finite(value)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def to_json(point: Mapping[str, Any]) -> str:
    """JSON text that can be encoded as UTF-8 whatever the run printed."""
    return json.dumps(point, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace").decode()


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def _merge(newest: dict[str, Any], point: Mapping[str, Any]) -> None:
    if len(newest) + len(point) <= MOST_KEYS:
        newest.update(point)
        return
    newest.update((key, value) for key, value in point.items() if key in newest)
