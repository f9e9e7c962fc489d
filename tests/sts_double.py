"""A regional STS on loopback that answers `GetCallerIdentity` as AWS does, and checks each signature with AWS's own signer.

Emulators take any signature. This one recomputes it with botocore from the request as it came, so that a header, a body or an
address that was changed after signing is refused as AWS refuses it.
"""

from __future__ import annotations

import hmac
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from lamplighter.contract.sigv4 import Credentials

REGION = "eu-north-1"
ACCOUNT = "123456789012"
ROLE = "lamplighter-worker"
INSTANCE = "i-0123456789abcdef0"
SKEW = timedelta(minutes=5)

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([^/]+)/sts/aws4_request, SignedHeaders=([^,]+), Signature=(\S+)"
)
_IDENTITY = """\
<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <GetCallerIdentityResult>
    <Arn>{arn}</Arn>
    <UserId>{user_id}</UserId>
    <Account>{account}</Account>
  </GetCallerIdentityResult>
  <ResponseMetadata><RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId></ResponseMetadata>
</GetCallerIdentityResponse>
"""
_ERROR = """\
<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>
</ErrorResponse>
"""


@dataclass(frozen=True)
class Caller:
    """Whose credentials these are."""

    credentials: Credentials
    arn: str
    user_id: str
    account: str = ACCOUNT


def instance(cloud_id: str = INSTANCE, *, role: str = ROLE, account: str = ACCOUNT) -> Caller:
    """An EC2 instance under a role. Each has keys of its own."""
    credentials = Credentials(f"ASIA{cloud_id[2:].upper():A<16}", f"secret of {cloud_id}", f"token/of+{cloud_id}==")
    arn = f"arn:aws:sts::{account}:assumed-role/{role}/{cloud_id}"
    return Caller(credentials, arn, f"AROAEXAMPLEEXAMPLE000:{cloud_id}", account)


class Sts(ThreadingHTTPServer):
    """Knows the callers that were introduced. `instead` is answered to everything: a status and a text."""

    daemon_threads = True

    def __init__(self, *callers: Caller) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.callers = {caller.credentials.access_key_id: caller for caller in callers}
        self.asked: list[dict[str, str]] = []
        self.instead: tuple[int, str] | None = None
        self.location = ""
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def judge(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        """The status and the text that AWS answers."""
        if self.instead:
            return self.instead
        found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
        caller = self.callers.get(found[1]) if found else None
        if not found or not caller or headers.get("x-amz-security-token") != caller.credentials.session_token:
            return _error("InvalidClientTokenId", "The security token included in the request is invalid.")
        if not hmac.compare_digest(found[4], _signature(method, path, headers, body, found, caller.credentials)):
            return _error("SignatureDoesNotMatch", "The request signature we calculated does not match.")
        signed_at = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(datetime.now(UTC) - signed_at) > SKEW:
            return _error("SignatureDoesNotMatch", "Signature expired")
        if parse_qs(body.decode()) != {"Action": ["GetCallerIdentity"], "Version": ["2011-06-15"]}:
            return _error("InvalidAction", "Could not find operation")
        return 200, _IDENTITY.format(arn=caller.arn, user_id=caller.user_id, account=caller.account)


def _signature(
    method: str, path: str, headers: dict[str, str], body: bytes, found: re.Match[str], credentials: Credentials
) -> str:
    signed = {name: headers[name] for name in found[3].split(";") if name in headers}
    request = AWSRequest(method, f"https://{headers['host']}{path}", signed, body)
    request.context["timestamp"] = headers["x-amz-date"]
    keys = BotoCredentials(credentials.access_key_id, credentials.secret_access_key, credentials.session_token)
    signer = SigV4Auth(keys, "sts", found[2])
    return str(signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request))


def _error(code: str, message: str) -> tuple[int, str]:
    return 403, _ERROR.format(code=code, message=message)


class _Handler(BaseHTTPRequestHandler):
    server: Sts

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append(headers)
        status, text = self.server.judge("POST", self.path, headers, body)
        self.send_response(status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""
