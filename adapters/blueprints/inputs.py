"""Gives each input of a step its URLs, with parameter values filled in and every URL checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from adapters.blueprints.faults import Faults, directory_fault, has_control, short, text_fault
from lamplighter.ports import StepInput

MAX_INPUTS = 256
MAX_URLS = 1000
MAX_URL = 4096
MAX_TOTAL_BYTES = 256 * 1024
DEFAULT_SCHEMES = frozenset({"http", "https", "s3", "datum"})
_STORE_SCHEMES = ("s3", "gs", "azure", "swift")
_NOT_YET = {"dataset": "datasets", "model": "models"}
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.+)", re.DOTALL)
_PLACEHOLDER = re.compile(r"\{parameter(?:-value)?:([^{}]+)\}")

Requested = Mapping[str, Sequence[str] | str]


def fill(
    declared: Mapping[str, Any],
    request: Requested,
    parameters: Mapping[str, Any],
    schemes: frozenset[str],
    faults: Faults,
) -> tuple[StepInput, ...]:
    """The step's inputs in its order, then those that only the request names. Faults go under "inputs.<name>"."""
    names = [*declared, *(name for name in request if name not in declared)]
    if len(names) > MAX_INPUTS:
        faults.add("inputs", f"{len(names)} inputs are given; at most {MAX_INPUTS} are allowed.")
        return ()
    filled: list[StepInput] = []
    total = 0
    for name in names:
        field = faults.of("inputs", name)
        if fault := directory_fault(name, limit=64):
            faults.add(field, f"The input name {short(name)} {fault}: it becomes a directory, at most 64 bytes long.")
            continue
        source = _source(declared.get(name), request.get(name))
        if not source and declared.get(name) and not declared[name].optional:
            faults.add(field, f"The input {short(name)} needs at least one URL: it has no default and is not optional.")
        urls = _urls(source, field, parameters, schemes, faults)
        total += sum(map(len, urls))
        filled.append(_input(name, declared.get(name), urls, field, faults))
    if total > MAX_TOTAL_BYTES:
        faults.add("inputs", f"The URLs are longer than {MAX_TOTAL_BYTES} characters together; use a wildcard.")
    return tuple(filled)


def _source(declared: Any, requested: Any) -> list[Any]:
    value = requested if requested is not None else getattr(declared, "default", None)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _input(name: str, declared: Any, urls: tuple[str, ...], field: str, faults: Faults) -> StepInput:
    if declared is None:
        return StepInput(name, urls)
    if declared.filename and (fault := directory_fault(declared.filename, limit=255)):
        faults.add(field, f"The filename {short(declared.filename)} {fault}.")
    return StepInput(
        name=name,
        urls=urls,
        optional=declared.optional,
        keep_directories=declared.keep_directories.value,
        filename=declared.filename or None,
        on_demand=declared.download.value == "on-demand",
    )


def _urls(
    source: list[Any], field: str, parameters: Mapping[str, Any], schemes: frozenset[str], faults: Faults
) -> tuple[str, ...]:
    if len(source) > MAX_URLS:
        faults.add(field, f"{len(source)} URLs are given; at most {MAX_URLS} are allowed: use a wildcard.")
        return ()
    urls: list[str] = []
    for url in source:
        try:
            urls.append(_checked(_interpolated(url, parameters), schemes))
        except ValueError as error:
            faults.add(field, f"{short(url)} {error}.")
            if faults.full(field):
                break
    return tuple(urls)


def _interpolated(url: Any, parameters: Mapping[str, Any]) -> str:
    if not isinstance(url, str):
        raise ValueError("is not text")  # noqa: TRY004 - one kind of fault for the caller
    if len(url) > MAX_URL:
        raise ValueError(f"is longer than {MAX_URL} characters")
    return _PLACEHOLDER.sub(lambda match: _value(match, parameters), url)


def _value(match: re.Match[str], parameters: Mapping[str, Any]) -> str:
    name = match.group(1)
    if name not in parameters:
        return match.group(0)
    value = parameters[name]
    if value is None or isinstance(value, list):
        raise ValueError(f"uses the parameter {short(name)}, which has no single value")
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    if len(text) > MAX_URL:
        raise ValueError(f"uses the parameter {short(name)}, which is longer than {MAX_URL} characters")
    return text


def _checked(url: str, schemes: frozenset[str]) -> str:
    if len(url) > MAX_URL:
        raise ValueError(f"is longer than {MAX_URL} characters")
    if has_control(url) or url != url.strip() or text_fault(url, limit=4 * MAX_URL):
        raise ValueError("holds control characters, or blanks at an end")
    match = _URL.fullmatch(url)
    if not match:
        raise ValueError('is no URL: give one such as "s3://bucket/key", "https://host/file" or "datum://id"')
    scheme, rest = match.groups()
    if scheme not in schemes:
        raise ValueError(_refusal(scheme, schemes))
    if scheme in ("http", "https"):
        _check_web(url)
    elif not rest.split("/")[0]:
        raise ValueError(f'names nothing behind "{scheme}://"')
    return url


def _refusal(scheme: str, schemes: frozenset[str]) -> str:
    if scheme in _NOT_YET:
        return f"cannot be used: {_NOT_YET[scheme]} are not supported as inputs here; give the files' datum:// URLs"
    if scheme in _STORE_SCHEMES:
        return f"cannot be used: no store of this kind ({scheme}) is configured"
    known = ", ".join(f"{name}://" for name in sorted(schemes))
    return f"has an unknown scheme; use one of {known}"


def _check_web(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"is no URL ({error})") from error
    if not host or " " in parts.netloc or "\\" in parts.netloc:
        raise ValueError("names no host")
