"""Every promise of the Secrets port, asked of every adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.aws.calls import JsonService
from adapters.secrets.file import FileSecrets
from adapters.secrets.parameter_store import CACHED_SECONDS, MAX_VALUE_BYTES, ParameterStoreSecrets
from lamplighter.errors import Invalid, NotFound
from lamplighter.ports import Secrets
from tests.conformance.metadata_places import REGION

PREFIX = "/lamplighter/test"

Opened = Callable[[], Secrets]


@pytest.fixture(params=["files", "Parameter Store on moto"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """Opens the same secrets anew each time, as another process would."""
    if request.param == "files":
        yield lambda: FileSecrets(tmp_path / "secrets")
        return
    request.getfixturevalue("aws_keys")
    url = request.getfixturevalue("moto")
    prefix = f"{PREFIX}/{tmp_path.name}"
    yield lambda: ParameterStoreSecrets(prefix, region=REGION, endpoint_url=url)


@pytest.mark.parametrize(
    "value",
    ["s3cret", 'ä \U0001f600 \n\t\\ "quoted" {{ssm:x}} {{{ \\{', " spaces ", "x" * MAX_VALUE_BYTES],
    ids=["plain", "odd characters", "spaces", "the largest"],
)
def test_a_value_comes_back_as_it_was_for_everybody(opened: Opened, value: str) -> None:
    opened().put("registry/org-1/ghcr.io", value)

    assert opened().get("registry/org-1/ghcr.io") == value


def test_a_later_value_replaces_an_earlier_one_also_for_those_who_have_read_it(opened: Opened) -> None:
    secrets = opened()
    secrets.put("name", "old")
    assert secrets.get("name") == "old"

    secrets.put("name", "new")

    assert secrets.get("name") == "new"
    assert opened().get("name") == "new"


def test_a_secret_that_was_never_kept_or_was_deleted_is_not_found(opened: Opened) -> None:
    secrets = opened()
    secrets.put("gone", "value")
    assert secrets.get("gone") == "value"
    secrets.delete("gone")
    secrets.delete("gone")

    for name in ("gone", "never"):
        with pytest.raises(NotFound, match=name):
            secrets.get(name)


def test_names_that_differ_little_are_different_secrets(opened: Opened) -> None:
    names = ["a/b", "a.b", "a-b", "a_b", "a_2Fb", "a", "A", "a/b/c"]
    for name in names:
        opened().put(name, f"value of {name}")

    assert [opened().get(name) for name in names] == [f"value of {name}" for name in names]


@pytest.mark.parametrize("name", ["", "x" * 1000, "\ud800"], ids=["empty", "long", "surrogate"])
def test_an_impossible_name_is_refused(opened: Opened, name: str) -> None:
    with pytest.raises(Invalid) as refused:
        opened().put(name, "value")

    assert "name" in refused.value.fields


@pytest.fixture
def server(moto: str, aws_keys: None) -> str:
    return moto


@pytest.mark.parametrize(
    "value", ["", "x" * (MAX_VALUE_BYTES + 1), "é" * 4097, "\udfff"], ids=["empty", "long", "long in bytes", "no text"]
)
def test_parameter_store_refuses_what_aws_cannot_keep_and_leaves_the_older_value(server: str, value: str) -> None:
    secrets = ParameterStoreSecrets(PREFIX, region=REGION, endpoint_url=server)
    secrets.put("name", "older")

    with pytest.raises(Invalid, match="1 to 8192 bytes"):
        secrets.put("name", value)

    assert secrets.get("name") == "older"


def test_parameter_store_remembers_what_it_has_read_for_a_minute_and_no_longer(server: str) -> None:
    now = 0.0
    reader = ParameterStoreSecrets(PREFIX, region=REGION, endpoint_url=server, monotonic=lambda: now)
    writer = ParameterStoreSecrets(PREFIX, region=REGION, endpoint_url=server)
    writer.put("changing", "old")
    assert reader.get("changing") == "old"
    writer.put("changing", "new")

    now = CACHED_SECONDS - 1
    soon = reader.get("changing")
    now = CACHED_SECONDS
    later = reader.get("changing")

    assert (soon, later) == ("old", "new")


def test_a_secret_is_encrypted_at_rest_under_the_prefix(server: str) -> None:
    secrets = ParameterStoreSecrets("lamplighter/tiers/", region=REGION, endpoint_url=server)
    secrets.put("org/ä b", "value")

    raw = _raw(server, "/lamplighter/tiers/org_2F_C3_A4_20b")
    assert raw["Type"] == "SecureString"
    assert raw["Value"] != "value"


def test_no_value_looks_like_a_reference_to_another_parameter_which_aws_would_refuse(server: str) -> None:
    ParameterStoreSecrets(PREFIX, region=REGION, endpoint_url=server).put("braces", "{{ssm:other}} {{{}}}")

    assert "{{" not in _raw(server, f"{PREFIX}/braces", decrypted=True)["Value"]


def _raw(server: str, name: str, *, decrypted: bool = False) -> dict[str, Any]:
    service = JsonService("ssm", target="AmazonSSM", version="1.1", region=REGION, endpoint_url=server)
    parameter: dict[str, Any] = service.call("GetParameter", {"Name": name, "WithDecryption": decrypted})["Parameter"]
    return parameter
