"""Over https the certificate is that of the name in the URL, although the connection goes to a checked address."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from lamplighter_worker import url_guard
from lamplighter_worker.transfer import Transfer

from lamplighter.contract.job import Call
from lamplighter.errors import Invalid
from tests.worker_files.server import QUICK, Server


@pytest.fixture
def tls(server: Server, tmp_path: Path) -> Iterator[Path]:
    """`server` speaks TLS as "localhost"; gives its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "certificate.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = tmp_path / "key.pem"
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, secret)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url_guard._tls.cache_clear()
    yield pem
    url_guard._tls.cache_clear()


def test_a_trusted_certificate_of_the_name_is_accepted(
    server: Server, tls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls))
    server.get("/a", b"content")

    Transfer(patience=QUICK).download(Call(f"https://localhost:{server.server_address[1]}/a"), tmp_path / "a")

    assert (tmp_path / "a").read_bytes() == b"content"
    assert server.requests("/a")[0].headers["Host"] == f"localhost:{server.server_address[1]}"


def test_a_certificate_of_another_name_is_refused(
    server: Server, tls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls))

    with pytest.raises(Invalid, match="certificate"):
        Transfer(patience=QUICK).download(Call(f"https://127.0.0.1:{server.server_address[1]}/a"), tmp_path / "a")


def test_an_unknown_certificate_is_refused(server: Server, tls: Path, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="certificate"):
        Transfer(patience=QUICK).download(Call(f"https://localhost:{server.server_address[1]}/a"), tmp_path / "a")
