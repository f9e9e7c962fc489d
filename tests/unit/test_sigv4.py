"""Requests signed by hand are those that botocore would have signed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as TheirCredentials

from lamplighter.contract.sigv4 import Credentials, signed_headers


@pytest.mark.parametrize("token", ["", "a-session-token=="])
@pytest.mark.parametrize(
    ("method", "url", "service", "headers", "body"),
    [
        (
            "POST",
            "https://dynamodb.eu-west-1.amazonaws.com/",
            "dynamodb",
            {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "DynamoDB_20120810.GetItem"},
            b"{}",
        ),
        ("GET", "https://sts.amazonaws.com/?Version=2011-06-15&Action=GetCallerIdentity", "sts", {}, b""),
        (
            "POST",
            "https://sts.eu-west-1.amazonaws.com/",
            "sts",
            {"X-Nonce": "  two   spaces "},
            b"Action=GetCallerIdentity",
        ),
        ("POST", "http://127.0.0.1:4566/a%20path/b", "states", {"B": "2", "a": "1"}, "é".encode()),
    ],
)
def test_a_request_is_signed_as_botocore_signs_it(
    method: str, url: str, service: str, headers: dict[str, str], body: bytes, token: str
) -> None:
    ours = signed_headers(
        method,
        url,
        service=service,
        region="eu-west-1",
        credentials=Credentials("AKIDEXAMPLE", "a-secret", token),
        now=datetime.now(UTC),
        headers=headers,
        body=body,
    )
    request = AWSRequest(method, url, headers={**headers, "X-Amz-Date": ours["X-Amz-Date"]}, data=body)
    theirs = SigV4Auth(TheirCredentials("AKIDEXAMPLE", "a-secret", token or None), service, "eu-west-1")
    # botocore signs with the moment at which it is called: it is given ours.
    request.context["timestamp"] = ours["X-Amz-Date"]
    if token:
        request.headers["X-Amz-Security-Token"] = token
    said = theirs.signature(theirs.string_to_sign(request, theirs.canonical_request(request)), request)

    assert ours["Authorization"].endswith(f"Signature={said}")


def test_secrets_do_not_show_when_credentials_are_printed() -> None:
    shown = repr(Credentials("AKIDEXAMPLE", "a-secret", "a-token"))

    assert ("AKIDEXAMPLE" in shown, "a-secret" in shown, "a-token" in shown) == (True, False, False)
