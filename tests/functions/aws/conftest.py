"""An emulator of AWS in a process of its own, for those stories that need a real S3 or a whole stack."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.metadata_places import KEYS, REGION, moto_server


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
