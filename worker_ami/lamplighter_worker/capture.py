"""Turns what a run writes, and what the agent has to say about it, into numbered events in the spool."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

from lamplighter_worker.clock import boottime
from lamplighter_worker.points import Points
from lamplighter_worker.redaction import Redactor
from lamplighter_worker.spool import FULL_BYTES, Record, Spool
from lamplighter_worker.tail import LONGEST_LINE, Tail, whole_characters

STDOUT, STDERR, STATUS = 0, 1, 2
_POLL_SECONDS = 0.05
_CUTS_PER_PASS = 2
_MOST_METADATA = 1_500_000


class Capture:
    """A thread that follows stdout and stderr. Its place is in the spool, so another agent goes on where this one stood."""

    def __init__(
        self,
        spool: Spool,
        directory: Path,
        redactor: Redactor,
        watch: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._spool = spool
        self._redactor = redactor
        self._points = Points(self._say_with_point, watch, _captured_at(spool.last_time))
        names = (directory / "stdout", directory / "stderr")
        self._tails = [Tail(path, offset, redactor.safe_cut) for path, offset in zip(names, spool.offsets, strict=True)]
        self._sayings: deque[tuple[str, str]] = deque()
        self._seq, self._time = spool.next_seq, spool.last_time
        self._ending = threading.Event()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self.last_output = boottime()
        self.fault: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def say(self, text: str) -> None:
        """Adds a status line. Never blocks."""
        self._say_with_point(text, "")

    def finish(self, check: Callable[[], None]) -> None:
        """Returns when all that the run wrote, and all that was said, is in the spool. The run must have ended.

        `check` is called while that lasts and may raise to leave. Raises `OSError` when the disk refused.
        """
        self._ending.set()
        while self._thread.is_alive():
            self._thread.join(_POLL_SECONDS)
            check()
        if self.fault is not None:
            raise self.fault

    def close(self) -> None:
        """Ends the thread at once; what was not captured stays in the files."""
        self._abandoned.set()
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _say_with_point(self, text: str, metadata: str) -> None:
        self._sayings.append((text, metadata))

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                if not self._pass(final=False):
                    self._ending.wait(_POLL_SECONDS)
            self._last_passes()
        except Exception as e:  # the attempt must learn of it, whatever it is: nothing is captured any more
            self.fault = e
        finally:
            for tail in self._tails:
                tail.close()

    def _last_passes(self) -> None:
        while not self._abandoned.is_set():
            if self._spool.size > FULL_BYTES:
                self._abandoned.wait(_POLL_SECONDS)
            elif not self._pass(final=True):
                self._points.flush()
                if not self._sayings:
                    return

    def _pass(self, *, final: bool) -> bool:
        """Cuts some of what there is; false when there was nothing."""
        now = boottime()
        self._points.tick(now)
        if any([tail.grown() for tail in self._tails]):
            self.last_output = now
        records = [self._status()] if self._sayings else []
        if self._spool.size <= FULL_BYTES:
            for stream, tail in enumerate(self._tails):
                for _ in range(_CUTS_PER_PASS):
                    inside = tail.starts_inside
                    data = tail.next(final)
                    if not data:
                        break
                    records.append(self._cut(stream, data, inside))
        if not records:
            self._points.caught_up()
        self._spool.append([record for record in records if record.count])
        for tail in self._tails:
            tail.release()
        return bool(records)

    def _cut(self, stream: int, data: bytes, inside: bool) -> Record:
        text = self._redactor.clean(data).decode("utf-8", "replace")
        if "\r" in text:
            text = text.replace("\r\n", "\n")
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        first = 0
        if inside and lines:
            first = 1
            if not lines[0]:  # the end of a line that was given in pieces
                first, lines = 0, lines[1:]
        points: list[tuple[int, str]] = []
        if stream == STDOUT and "{" in text:
            points = [(index + first, point) for index, point in self._points.find(lines[first:] if first else lines)]
        if len(text) > LONGEST_LINE // 4 and any(len(line) > LONGEST_LINE // 4 for line in lines):
            lines, points = _in_pieces(lines, points)
        return self._record(stream, lines, points)

    def _status(self) -> Record:
        lines: list[str] = []
        points: list[tuple[int, str]] = []
        while self._sayings and len(lines) < 1000:
            text, metadata = self._sayings.popleft()
            clean = self._redactor.clean(text[:LONGEST_LINE].encode("utf-8", "replace")).decode("utf-8", "replace")
            if metadata:
                points.append((len(lines), metadata))
            lines.append(clean.replace("\n", " "))
        return self._record(STATUS, lines, points)

    def _record(self, stream: int, lines: list[str], points: list[tuple[int, str]]) -> Record:
        """Numbers and times the lines, and writes them as the wire will carry them."""
        start = max(self._time + 1, time.time_ns() // 1000)
        messages = zip(range(start, start + len(lines)), map(encode_basestring, lines), strict=True)
        body = ",".join([f"[{moment},{stream},{message}]" for moment, message in messages])
        metadata = ",".join([f"[{self._seq + index},{point}]" for index, point in points])
        if len(metadata) > _MOST_METADATA:
            self.say("Metadata was dropped: its objects are too large to be sent together.")
            metadata = ""
        out, err = (tail.offset for tail in self._tails)
        record = Record(self._seq, len(lines), body.encode(), metadata.encode(), (out, err), start + len(lines) - 1)
        if lines:
            self._seq, self._time = self._seq + len(lines), start + len(lines) - 1
        return record


def _captured_at(last_time: int) -> float | None:
    """The `boottime` of the last event of an earlier agent."""
    return boottime() - max(0.0, time.time() - last_time / 1e6) if last_time else None


def _in_pieces(lines: list[str], points: list[tuple[int, str]]) -> tuple[list[str], list[tuple[int, str]]]:
    """Lines of more than 64 KiB in several; a point stays with the first piece of its line."""
    pieces: list[str] = []
    places: list[int] = []
    for line in lines:
        places.append(len(pieces))
        data = line.encode()
        while len(data) > LONGEST_LINE:
            cut = whole_characters(data, LONGEST_LINE)
            pieces.append(data[:cut].decode())
            data = data[cut:]
        pieces.append(data.decode())
    return pieces, [(places[index], point) for index, point in points]
