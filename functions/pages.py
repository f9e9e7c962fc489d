"""The small web page that looks into the API: three static files, served for every address that a person may open."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from functions.messages import Answer

WEB = Path(__file__).resolve().parent.parent / "web"

PAGE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

_FILES = {
    "/web/app.js/": ("app.js", "text/javascript; charset=utf-8"),
    "/web/style.css/": ("style.css", "text/css; charset=utf-8"),
}


def page_for(path: str) -> Answer | None:
    """The file for a canonical path, or None where no page is."""
    if path in _FILES:
        name, kind = _FILES[path]
        return Answer(200, _read(name), kind)
    if path in ("/", "/auth/tokens/") or path.startswith("/p/"):
        return Answer(200, _read("index.html"), "text/html; charset=utf-8")
    return None


@cache
def _read(name: str) -> bytes:
    return (WEB / name).read_bytes()
