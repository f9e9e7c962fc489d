"""Hostile URLs, names and certificates of git hosts are refused before anything is asked of them."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.githosts.addresses import acceptable
from adapters.githosts.bare_git import BareGit
from lamplighter.errors import Invalid, Unavailable
from tests.conformance.git_places import GitServer, git, refusal


class Names:
    """A name server that answers with public addresses first and private ones afterwards, and counts the questions."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.questions: list[str] = []

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.questions.append(host)
        address = self.answers[min(len(self.questions), len(self.answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in address.split(",")]


BAD_URLS = [
    "",
    "git",
    "http://github.com/a/b.git",
    "git://github.com/a/b.git",
    "ssh://git@github.com/a/b.git",
    "git@github.com:a/b.git",
    "file:///etc",
    "ext::sh -c touch% /tmp/owned",
    "ftp://host.example/a",
    "HTTPS//host.example/a",
    "-oProxyCommand=owned",
    "--upload-pack=owned",
    "https://",
    "https:///a/b",
    "https://host.example",
    "https://host.example/",
    "https://user@host.example/a",
    "https://user:pass@host.example/a",
    "https://@host.example/a",
    "https://host.example@127.0.0.1/a",
    "https://host.example/a?x=1",
    "https://host.example/a?",
    "https://host.example/a#x",
    "https://host.example/a b",
    "https://host.example/a\r\nHost: x",
    "https://host.example/a\nb",
    "https://host.example/\ta",
    "https://host.example\\@127.0.0.1/a",
    "https://host.example/../a",
    "https://host.example/a/./b",
    "https://host.example//evil.example/a",
    "https://host.example:0/a",
    "https://host.example:/a",
    "https://host.example:99999/a",
    "https://host.example:x/a",
    "https://-host.example/a",
    "https://host_.example/a",
    "https://host..example/a",
    "https://höst.example/a",
    "https://①②⑦.⓪.⓪.①/a",
    "https://[::1/a",
    "https://[fe80::1%25eth0]/a",
    "https://" + "a" * 2100 + ".example/a",
    "https://localhost/a",
    "https://localhost./a",
    "https://LOCALHOST/a",
    "https://x.localhost/a",
    "https://metadata/a",
    "https://metadata.google.internal/a",
    "https://server.local/a",
    "https://intranet/a",
    "https://127.0.0.1/a",
    "https://127.1/a",
    "https://127.0.1/a",
    "https://2130706433/a",
    "https://0x7f000001/a",
    "https://0x7f.0.0.1/a",
    "https://017700000001/a",
    "https://0177.0.0.1/a",
    "https://127.0.0.01/a",
    "https://1.2.3.4.5/a",
    "https://0.0.0.0/a",
    "https://0/a",
    "https://10.0.0.1/a",
    "https://172.16.0.1/a",
    "https://192.168.0.1/a",
    "https://100.64.0.1/a",
    "https://100.100.100.200/a",
    "https://169.254.169.254/a",
    "https://168.63.129.16/a",
    "https://192.0.2.1/a",
    "https://198.18.0.1/a",
    "https://224.0.0.1/a",
    "https://240.0.0.1/a",
    "https://255.255.255.255/a",
    "https://[::]/a",
    "https://[::1]/a",
    "https://[::ffff:127.0.0.1]/a",
    "https://[::ffff:7f00:1]/a",
    "https://[::127.0.0.1]/a",
    "https://[2002:7f00:1::]/a",
    "https://[2002:a9fe:a9fe::1]/a",
    "https://[64:ff9b::7f00:1]/a",
    "https://[64:ff9b::169.254.169.254]/a",
    "https://[64:ff9b:1::a00:1]/a",
    "https://[2001:0:1:2:3:4:80ff:fffe]/a",
    "https://[fe80::1]/a",
    "https://[fec0::1]/a",
    "https://[fc00::1]/a",
    "https://[fd00:ec2::254]/a",
    "https://[ff02::1]/a",
    "https://[2001:db8::1]/a",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_hostile_url_is_refused_without_asking_any_name_server(url: str) -> None:
    names = Names("93.184.216.34")
    host = BareGit(allow_private_hosts=False, lookup=names)

    refused = refusal(lambda: host.resolve(url, "main"))

    assert isinstance(refused, Invalid)
    assert set(refused.fields) == {"url"}
    assert names.questions == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "168.63.129.16", "::1", "::ffff:10.0.0.1", "fe80::1%eth0", "fd00:ec2::254",
     "93.184.216.34,127.0.0.1", "64:ff9b::a9fe:a9fe", "0.0.0.0"],
)  # fmt: skip
def test_a_public_name_with_a_private_address_is_refused(address: str) -> None:
    host = BareGit(allow_private_hosts=False, lookup=Names(address))

    assert isinstance(refusal(lambda: host.resolve("https://innocent.example/a/b.git", "main")), Invalid)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "168.63.129.16", "fd00:ec2::254", "100.100.100.200", "::ffff:169.254.169.254"]
)
def test_metadata_services_stay_closed_even_where_private_hosts_are_allowed(address: str) -> None:
    host = BareGit(allow_private_hosts=True, lookup=Names(address))

    assert isinstance(refusal(lambda: host.resolve("https://innocent.example/a/b.git", "main")), Invalid)


def test_a_name_is_resolved_once_and_the_checked_address_is_the_one_connected_to(work: Path, server: GitServer) -> None:
    names = Names("127.0.0.1", "10.255.255.1")
    url = server.url().replace("127.0.0.1", "git.example")

    found = BareGit(allow_private_hosts=True, lookup=names).resolve(url, "main")

    assert found.identifier == git(work, "rev-parse", "main")
    assert names.questions == ["git.example"]


def certificate_for(name: str, place: Path) -> Path:
    """A self-signed certificate with its key, as one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = place / f"{name}.pem"
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + secret)
    return file


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("name", ["git.example", "other.example"])
def test_the_certificate_must_be_trusted_and_name_the_host_of_the_url(
    work: Path, server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trusted: bool
) -> None:
    certificate = certificate_for(name, tmp_path)
    server.speak_tls(certificate)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    url = server.url().replace("http://127.0.0.1", "https://git.example")
    host = BareGit(allow_private_hosts=True, lookup=Names("127.0.0.1"))

    if trusted and name == "git.example":
        assert host.resolve(url, "main").identifier == git(work, "rev-parse", "main")
    else:
        assert isinstance(refusal(lambda: host.resolve(url, "main")), Unavailable)
        assert server.asked == []


def test_a_name_that_cannot_be_resolved_is_unavailable() -> None:
    def fails(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    host = BareGit(allow_private_hosts=False, lookup=fails)

    assert isinstance(refusal(lambda: host.resolve("https://nowhere.example/a", "main")), Unavailable)


def test_public_addresses_are_acceptable() -> None:
    import ipaddress

    for address in ("93.184.216.34", "140.82.121.4", "2606:50c0:8000::153", "64:ff9b::5db8:d822"):
        assert acceptable(ipaddress.ip_address(address), allow_private_hosts=False)


def test_local_paths_are_closed_unless_they_are_opened(work: Path, server: GitServer) -> None:
    host = BareGit(allow_private_hosts=True)

    assert isinstance(refusal(lambda: host.resolve(f"file://{server.root}/project.git", "main")), Invalid)
