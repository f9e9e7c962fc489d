"""Turn an execution's input URLs into files with calls that an agent can make."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import unquote, urlsplit

from lamplighter import keys
from lamplighter.contract.job import Call, Input, InputFile
from lamplighter.domain.data import Datum, free_properties
from lamplighter.domain.executions import Execution, ExecutionInput
from lamplighter.errors import Invalid, LamplighterError
from lamplighter.records import find
from lamplighter.usecases.attempts import inputs_of
from lamplighter.usecases.compose_job import call_of
from lamplighter.world import World

MAX_FILES = 10_000
"""Files of one input; a wildcard that matches more is refused rather than cut."""


def resolve_inputs(execution: Execution, *, world: World) -> tuple[Input, ...]:
    """Every input with its files, `_restart` included. On-demand files carry no call until user code asks for them.

    Raises `Invalid` naming the input whose URL matches nothing, is gone, or needs a store that is not configured.
    """
    return tuple(_resolve(execution, item, world) for item in inputs_of(execution, world=world))


def input_id(execution: Execution, name: str) -> str:
    """What user code passes back to ask for an on-demand file of this input."""
    return f"{execution.id}.{name}"


def files_of(item: ExecutionInput, *, world: World) -> tuple[InputFile, ...]:
    """The files of one input, on-demand ones with their calls as well."""
    found: list[InputFile] = []
    for url in item.urls:
        try:
            found.extend(_expand(item, url, world))
        except LamplighterError as error:
            raise Invalid({f"inputs.{item.name}": [f"{_shown(url)}: {error}"]}) from error
        if len(found) > MAX_FILES:
            raise Invalid({f"inputs.{item.name}": [f"More than {MAX_FILES} files: narrow the pattern {_shown(url)}."]})
    return _named_apart(found)


def _resolve(execution: Execution, item: ExecutionInput, world: World) -> Input:
    files = files_of(item, world=world)
    if not files and not item.optional:
        where = ", ".join(_shown(url) for url in item.urls) or "no URL was given"
        raise Invalid(
            {f"inputs.{item.name}": [f"Input {item.name} has no files ({where}). Give a URL that matches some."]}
        )
    if item.on_demand:
        files = tuple(_without_call(f) for f in files)
    return Input(item.name, input_id(execution, item.name), files)


def _without_call(file: InputFile) -> InputFile:
    return replace(file, call=None)


def _expand(item: ExecutionInput, url: str, world: World) -> Iterator[InputFile]:
    if url.startswith("datum://"):
        yield _datum_file(item, url, world)
        return
    located = world.stores.locate(url)
    if located:
        yield from _store_files(item, *located, world)
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise Invalid.because(
            f"no store of this installation holds {parts.scheme}://{parts.netloc}. Add it with `lamplighter store add`."
        )
    name = item.filename if item.filename and len(item.urls) == 1 else _last_segment(parts.path)
    path = parts.path.lstrip("/") if item.keep_directories == "full" else name
    yield InputFile(name=name, path=_safe(unquote(path)), uri=_shown(url), call=Call(url), cache_key=url)


def _datum_file(item: ExecutionInput, url: str, world: World) -> InputFile:
    stored = find(world.metadata, Datum, keys.datum(url.removeprefix("datum://")))
    if not stored or not stored.value.visible:
        raise Invalid.because("there is no such datum")
    datum = stored.value
    if datum.purged:
        raise Invalid.because(f"datum {datum.name} was purged; run its execution again or choose another one")
    target = world.stores.named(datum.store).presign_get(datum.object_key, seconds=world.installation.presign_seconds)
    base = posixpath.basename(datum.name)
    name = item.filename if item.filename and len(item.urls) == 1 else base
    properties = free_properties(datum.metadata)
    return InputFile(
        name=name,
        path=_safe(datum.name if item.keep_directories in ("full", "suffix") and not item.filename else name),
        uri=url,
        call=call_of(target),
        size=datum.size,
        datum_id=datum.id,
        checksums={k: v for k, v in (("md5", datum.md5), ("sha1", datum.sha1), ("sha256", datum.sha256)) if v},
        metadata=(properties,) if properties else (),
        cache_key=f"sha256:{datum.sha256}" if datum.sha256 else f"datum:{datum.id}",
    )


def _store_files(item: ExecutionInput, store_name: str, key: str, world: World) -> Iterator[InputFile]:
    store = world.stores.named(store_name)
    root = key[: min((key.index(c) for c in "*?" if c in key), default=len(key))]
    wild = root != key
    pattern = _pattern(key)
    objects = (o for o in store.list(root) if pattern.fullmatch(o.key)) if wild else iter([store.head(key)])
    for info in objects:
        target = store.presign_get(info.key, seconds=world.installation.presign_seconds)
        base = posixpath.basename(info.key)
        name = item.filename if item.filename and not wild and len(item.urls) == 1 else base
        uri = world.stores.uri(store_name, info.key)
        path = {"full": info.key, "suffix": info.key[len(root.rpartition("/")[0]) :].lstrip("/")}.get(
            item.keep_directories, name
        )
        yield InputFile(
            name=name, path=_safe(path), uri=uri, call=call_of(target), size=info.size, cache_key=f"{uri}#{info.size}"
        )


def _pattern(key: str) -> re.Pattern[str]:
    """`*` stays within one level, `**` goes deep."""
    parts = re.split(r"(\*\*/?|\*|\?)", key)
    kinds = {"**": ".*", "**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(kinds.get(part, re.escape(part)) for part in parts))


def _named_apart(files: list[InputFile]) -> tuple[InputFile, ...]:
    """Two files of one name: the later one gets a number, so that nothing is silently overwritten."""
    taken: set[str] = set()
    apart = []
    for file in files:
        path, n = file.path, 1
        while path in taken:
            stem, ext = posixpath.splitext(file.path)
            path, n = f"{stem}-{n}{ext}", n + 1
        taken.add(path)
        apart.append(file if path == file.path else replace(file, path=path, name=posixpath.basename(path)))
    return tuple(apart)


def _last_segment(path: str) -> str:
    return unquote(posixpath.basename(path.rstrip("/"))) or "index"


def _safe(path: str) -> str:
    parts = [p for p in path.split("/") if p not in ("", ".")]
    if not parts or ".." in parts or any(ord(c) < 32 or c == "\x7f" for c in path) or len(path.encode()) > 1024:
        raise Invalid.because(f"{path!r} cannot be a file name of an input")
    return "/".join(parts)


def _shown(url: str) -> str:
    """A URL without credentials and query, for messages and records."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()[:300]
