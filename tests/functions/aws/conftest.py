"""An emulator of AWS in a process of its own, for those stories that need a real S3 or a whole stack."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from tests.conformance.metadata_places import KEYS, REGION, moto_server
from tests.functions.aws.operator_shell import Shell, doors, stack_with_all_parts


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a moto server."""
    with moto_server(tmp_path_factory.mktemp("moto") / "moto.log") as url:
        yield url


@pytest.fixture
def aws(moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The emulator as everything in this process finds it: by its address, with keys and a region."""
    for name, value in {**KEYS, "AWS_DEFAULT_REGION": REGION, "AWS_ENDPOINT_URL": moto}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return moto


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """Where a stack answers."""
    with doors() as url:
        yield url


@pytest.fixture
def shell(aws: str, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Before a stack that has all its parts."""
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    return Shell(stack_with_all_parts(url), url, capsys)
