"""Takes secrets out of what a run prints, in the forms in which they tend to leak."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

SHORTEST = 4
"""Shorter values are left: hiding every "1" or "on" would make logs unreadable and protect nothing."""

MASK = b"****"


class Redactor:
    """Replaces each secret, as it is and in base64, URL and JSON encoding, by `****`."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        self._forms = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(re.escape(form) for form in self._forms)) if forms else None
        self.longest = len(self._forms[0]) if forms else 0

    def clean(self, data: bytes) -> bytes:
        """`data` without secrets. A secret that is cut off at either end of `data` is not seen: see `safe_cut`."""
        if self._pattern is None or not any(form in data for form in self._forms):
            return data
        return self._pattern.sub(MASK, data)

    def safe_cut(self, data: bytes, cut: int) -> int:
        """The last place at or before `cut` where `data` can be parted without parting a secret."""
        if self._pattern is None:
            return cut
        start = max(0, cut - self.longest)
        for match in self._pattern.finditer(data, start, min(len(data), cut + self.longest)):
            if match.start() < cut < match.end():
                return match.start() or cut
        return cut


def _forms(secret: str) -> Iterable[bytes]:
    """A secret of several lines leaks line by line, because logs are lines."""
    whole = [secret, *(line.strip() for line in secret.splitlines())]
    for text in whole:
        if len(text) < SHORTEST:
            continue
        raw = text.encode("utf-8", "replace")
        yield raw
        yield quote(text, safe="").encode()
        yield quote_plus(text).encode()
        yield json.dumps(text)[1:-1].encode()
        yield json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "replace")
        yield from _base64_forms(raw)


def _base64_forms(raw: bytes) -> Iterable[bytes]:
    """Base64 of text that contains the secret shows it in one of three alignments, without the shared end characters."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw)
        first = -(-before * 8 // 6)
        last = (before + len(raw)) * 8 // 6
        core = encoded[first:last]
        if len(core) > SHORTEST:
            yield core
            yield core.replace(b"+", b"-").replace(b"/", b"_")
