"""Where this machine may fetch from is decided by address, not by name."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from lamplighter_worker.url_guard import check, safe_url, same_origin

from lamplighter.errors import Invalid, Unavailable

LOCAL = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://0.0.0.0/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fe80::1]/",
    "http://[fd00:ec2::254]/",
    "http://[fd20:ce::254]/",
    "http://168.63.129.16/",
    "http://100.100.100.200/",
    "http://192.0.0.192/",
    "http://224.0.0.1/",
    "http://[ff02::1]/",
    "http://255.255.255.255/",
    "http://localhost/",
]
LAN = ["http://10.1.2.3/", "http://172.16.0.1/", "http://192.168.1.1/", "http://[fd12:3456::1]/"]
GLOBAL = ["http://1.1.1.1/", "https://8.8.8.8:8443/x", "http://[2606:4700::1111]/", "http://[64:ff9b::101:101]/"]


@pytest.mark.parametrize("url", LOCAL)
@pytest.mark.parametrize("networks", ["public", "private"])
def test_this_machine_and_metadata_services_are_never_reached(url: str, networks: str) -> None:
    with pytest.raises(Invalid):
        check(url, networks)


@pytest.mark.parametrize("url", LAN)
def test_the_lan_is_reached_only_where_allowed(url: str) -> None:
    with pytest.raises(Invalid, match="network"):
        check(url, "public")

    assert check(url, "private").addresses


def test_a_refusal_says_what_the_address_is_not_and_which_option_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid) as literal:
        check("http://127.0.0.1:8/a", "public")
    answers(monkeypatch, "10.0.0.1")
    with pytest.raises(Invalid) as named:
        check("http://data.example/a", "public")

    allows = "not a public address, and this environment allows only those (option input_networks)"
    assert str(literal.value) == f"http://127.0.0.1:8/a cannot be fetched: 127.0.0.1 is {allows}"
    assert str(named.value) == f"http://data.example/a cannot be fetched: data.example is 10.0.0.1, which is {allows}"


@pytest.mark.parametrize("url", GLOBAL)
@pytest.mark.parametrize("networks", ["public", "private", "any"])
def test_global_addresses_are_reached(url: str, networks: str) -> None:
    assert check(url, networks).addresses


def test_anything_is_reached_under_any() -> None:
    assert check("http://127.0.0.1:8080/a", "any").addresses == ("127.0.0.1",)


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "ftp://1.1.1.1/", "gopher://1.1.1.1/", "//1.1.1.1/", "/a", "", "http://", "http:///a"),
        *("http://1.1.1.1:99999/", "http://1.1.1.1:x/", "http://[::1/", "http://1.1.1.1/a\r\nb", "http://a\0b/"),
        *("http://" + "a" * 70 + "/", "http://.../", "http://\ud800/", "http://ⓐ\u2100/"),
    ],
)
def test_what_is_no_fetchable_url_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        check(url, "any")


def test_only_allowed_addresses_of_a_name_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "127.0.0.1", "1.1.1.1", "10.0.0.1")

    assert check("http://mixed.example/", "public").addresses == ("1.1.1.1",)
    assert check("http://mixed.example/", "private").addresses == ("1.1.1.1", "10.0.0.1")


def test_a_name_is_asked_for_once_and_stays_in_the_host_header(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, "1.1.1.1")

    endpoint = check("https://Data.Example:444/a?b=c#d", "public")

    assert asked == ["data.example"]
    assert (endpoint.host_header, endpoint.target) == ("data.example:444", "/a?b=c")


def test_an_unsure_name_server_is_a_passing_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", fail)

    with pytest.raises(Unavailable):
        check("http://data.example/", "any")


def test_a_misspelt_setting_is_not_taken_for_any() -> None:
    with pytest.raises(ValueError, match="publik"):
        check("http://1.1.1.1/", "publik")


def test_messages_show_no_credentials() -> None:
    assert safe_url("https://ada:secret@host:1/a?token=secret#secret") == "https://host:1/a"
    assert "secret" not in safe_url("http://[secret")


def test_an_origin_is_scheme_host_and_port() -> None:
    assert same_origin("https://HOST/a", "https://host:443/b?c")
    assert not same_origin("https://host/", "http://host/")
    assert not same_origin("https://host/", "https://host:444/")
    assert not same_origin("https://host@evil/", "https://host/")
    assert not same_origin("nonsense", "nonsense")


def answers(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    asked: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> Any:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked
