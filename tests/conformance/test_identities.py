"""Who a machine is: only what its cloud confirms of a proof that nothing was changed in."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.sax.saxutils import escape

import boto3
import pytest

from adapters.catalogue import adapter
from adapters.identities import ec2
from adapters.identities.ec2 import Ec2Identity
from lamplighter.contract import ec2_proof
from lamplighter.contract.sigv4 import Credentials, signed_headers
from lamplighter.errors import Invalid, NotAuthenticated, Throttled, Unavailable
from tests.sts_double import ACCOUNT, INSTANCE, REGION, ROLE, Caller, Sts, instance

INSTALLATION = "01234567-89ab-7cde-8f01-23456789abcd"
NONCE = "1767600000000000.00ff"


@pytest.fixture
def sts() -> Iterator[Sts]:
    running = Sts(instance())
    yield running
    running.close()


def an_identity(endpoint_url: str | None, **changes: Any) -> Ec2Identity:
    parts = {"region": REGION, "account": ACCOUNT, "role": ROLE, "installation": INSTALLATION} | changes
    made: Ec2Identity = adapter("identities", "ec2")(endpoint_url=endpoint_url, **parts)
    return made


def a_proof(
    credentials: Credentials | None = None,
    *,
    region: str = REGION,
    now: datetime | None = None,
    headers: Mapping[str, str] | None = None,
    left_out: str = "",
    **evidence: Any,
) -> dict[str, Any]:
    """What a machine sends. `headers` and `left_out` change what is signed, `evidence` what is told of the request."""
    ours = {
        "Content-Type": ec2_proof.CONTENT_TYPE,
        ec2_proof.NONCE_HEADER: NONCE,
        ec2_proof.INSTALLATION_HEADER: INSTALLATION,
        **(headers or {}),
    }
    request = {"method": "POST", "url": ec2_proof.sts_url(region), "body": ec2_proof.BODY} | evidence
    request.setdefault(
        "headers",
        signed_headers(
            request["method"],
            request["url"],
            service="sts",
            region=region,
            credentials=credentials or instance().credentials,
            now=now or datetime.now(UTC),
            headers={name: value for name, value in ours.items() if name != left_out},
            body=request["body"].encode(),
        ),
    )
    return {"cloud": "ec2", "nonce": NONCE, "evidence": request}


def _retold(headers: Any) -> dict[str, Any]:
    return {"cloud": "ec2", "nonce": NONCE, "evidence": {**a_proof()["evidence"], "headers": headers}}


# --- what counts ----------------------------------------------------------------------------------------------------------


def test_an_instance_is_known_by_what_it_signed(sts: Sts) -> None:
    assert an_identity(sts.url).cloud_id(a_proof()) == INSTANCE


def test_sts_is_asked_for_the_very_request_that_was_signed(sts: Sts) -> None:
    proof = a_proof()

    an_identity(sts.url).cloud_id(proof)

    signed = {name.lower(): value for name, value in proof["evidence"]["headers"].items()}
    assert signed.items() <= sts.asked[0].items()
    assert sts.asked[0]["host"] == f"sts.{REGION}.amazonaws.com"


def test_moto_names_an_assumed_role_in_the_form_that_is_read(moto: str) -> None:
    """For the form of the answer only: moto does not look at signatures."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION, "endpoint_url": moto}
    role = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
    given = boto3.client("sts", **keys).assume_role(RoleArn=role, RoleSessionName=INSTANCE)["Credentials"]
    credentials = Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])

    assert an_identity(moto).cloud_id(a_proof(credentials)) == INSTANCE


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"])
def test_an_emulator_is_found_by_the_environment(variable: str, sts: Sts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, sts.url)

    assert an_identity(None).cloud_id(a_proof()) == INSTANCE


def test_china_has_its_own_domain() -> None:
    assert ec2_proof.sts_url("cn-north-1") == "https://sts.cn-north-1.amazonaws.com.cn/"


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(Invalid, match="no address of an STS"):
        an_identity("sts.example.org")


# --- who does not count ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "caller",
    [
        instance(account="999999999999"),
        instance(role="another-role"),
        instance(role=f"{ROLE}-2"),
        Caller(instance().credentials, f"arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/somebody", "AROAEXAMPLE:somebody"),
        Caller(
            instance().credentials, f"arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/{INSTANCE}/x", f"AROA:{INSTANCE}/x"
        ),
        Caller(instance().credentials, f"arn:aws:iam::{ACCOUNT}:user/{ROLE}/{INSTANCE}", "AIDAEXAMPLE"),
        Caller(instance().credentials, f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT),
        Caller(instance().credentials, instance().arn, "AROAEXAMPLE:i-fedcba9876543210f"),
        Caller(instance().credentials, instance().arn, instance().user_id, account="999999999999"),
    ],
    ids=lambda caller: caller.arn,
)
def test_whoever_is_no_instance_under_our_role_is_refused(caller: Caller, sts: Sts) -> None:
    sts.callers[caller.credentials.access_key_id] = caller

    with pytest.raises(NotAuthenticated, match="no instance under the role"):
        an_identity(sts.url).cloud_id(a_proof(caller.credentials))


def test_credentials_that_sts_does_not_know_are_refused(sts: Sts) -> None:
    with pytest.raises(NotAuthenticated, match="InvalidClientTokenId"):
        an_identity(sts.url).cloud_id(a_proof(instance("i-00000000000000000").credentials))


def test_an_old_signature_is_refused(sts: Sts) -> None:
    with pytest.raises(NotAuthenticated, match="SignatureDoesNotMatch"):
        an_identity(sts.url).cloud_id(a_proof(now=datetime.now(UTC) - timedelta(minutes=6)))


@pytest.mark.parametrize("header", ["X-Amz-Date", "X-Amz-Security-Token", "Authorization"])
def test_what_was_changed_after_signing_is_refused_by_sts(header: str, sts: Sts) -> None:
    signed = a_proof()["evidence"]["headers"]
    if header == "X-Amz-Date":
        changed = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y%m%dT%H%M%SZ")
    else:
        changed = signed[header][:-1] + ("0" if signed[header][-1] != "0" else "1")

    with pytest.raises(NotAuthenticated, match=r"SignatureDoesNotMatch|InvalidClientTokenId"):
        an_identity(sts.url).cloud_id(_retold({**signed, header: changed}))
    assert len(sts.asked) == 1


# --- what is never sent on ------------------------------------------------------------------------------------------------

_SIGNED = a_proof()["evidence"]["headers"]


def _unsigned(name: str) -> dict[str, Any]:
    """The header is there, and not covered by the signature."""
    headers = a_proof(left_out=name)["evidence"]["headers"]
    return _retold({**headers, name: {ec2_proof.NONCE_HEADER: NONCE}.get(name, INSTALLATION)})


REFUSED: dict[str, Any] = {
    "nothing at all": {},
    "no evidence": {"cloud": "ec2", "nonce": NONCE},
    "evidence that is text": {"cloud": "ec2", "nonce": NONCE, "evidence": "POST"},
    "another host": a_proof(url="https://sts.eu-north-1.amazonaws.com.evil.example/"),
    "another scheme": a_proof(url="http://sts.eu-north-1.amazonaws.com/"),
    "another port": a_proof(url="https://sts.eu-north-1.amazonaws.com:8443/"),
    "a user in the address": a_proof(url="https://x@sts.eu-north-1.amazonaws.com/"),
    "a query": a_proof(url="https://sts.eu-north-1.amazonaws.com/?Action=GetCallerIdentity"),
    "the global address": a_proof(url="https://sts.amazonaws.com/"),
    "another region": a_proof(region="us-east-1"),
    "another method": a_proof(method="GET"),
    "another action": a_proof(body="Action=GetSessionToken&Version=2011-06-15"),
    "more in the body": a_proof(body=ec2_proof.BODY + "&X=1"),
    "a body that is a list": a_proof() | {"evidence": {**a_proof()["evidence"], "body": [ec2_proof.BODY]}},
    "a nonce that is not signed": _unsigned(ec2_proof.NONCE_HEADER),
    "an installation that is not signed": _unsigned(ec2_proof.INSTALLATION_HEADER),
    "no nonce": a_proof(left_out=ec2_proof.NONCE_HEADER),
    "no installation": a_proof(left_out=ec2_proof.INSTALLATION_HEADER),
    "no kind of content": a_proof(left_out="Content-Type"),
    "another nonce": a_proof(headers={ec2_proof.NONCE_HEADER: "1767600000000001.00ff"}),
    "another installation": a_proof(headers={ec2_proof.INSTALLATION_HEADER: "another"}),
    "another kind of content": a_proof(headers={"Content-Type": "application/json"}),
    "a signed header of its own": a_proof(headers={"X-Forwarded-Host": "evil.example"}),
    "a wish for another form of answer": a_proof(headers={"Accept": "application/json"}),
    "an unsigned header of its own": _retold({**_SIGNED, "Transfer-Encoding": "chunked"}),
    "a header twice": _retold({**_SIGNED, "HOST": _SIGNED["Host"]}),
    "another host in the header": _retold({**_SIGNED, "Host": "evil.example"}),
    "a line break in a header": _retold({**_SIGNED, "X-Amz-Date": "20260105T100000Z\r\nX-Evil: 1"}),
    "a header beyond ASCII": _retold({**_SIGNED, "X-Amz-Security-Token": "tök"}),
    "a header without end": _retold({**_SIGNED, "X-Amz-Security-Token": "t" * (ec2.MAX_VALUE + 1)}),
    "a header that is a number": _retold({**_SIGNED, "X-Amz-Date": 7}),
    "headers that are a list": _retold([["Host", "x"]]),
    "no signature": _retold({name: value for name, value in _SIGNED.items() if name != "Authorization"}),
    "another kind of signature": _retold({**_SIGNED, "Authorization": "AWS ASIAX:abc"}),
    "a signature for another service": _retold(
        {**_SIGNED, "Authorization": _SIGNED["Authorization"].replace("/sts/", "/s3/")}
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_proof_that_is_not_to_the_letter_is_refused_and_asks_nobody(what: str, sts: Sts) -> None:
    with pytest.raises(NotAuthenticated, match="no proof of an EC2 machine"):
        an_identity(sts.url).cloud_id(REFUSED[what])
    assert sts.asked == []


# --- when STS is not well -------------------------------------------------------------------------------------------------


def _answer(arn: str = instance().arn, more: str = "", root: str = "GetCallerIdentityResponse") -> str:
    return (
        f'{more}<{root} xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>{arn}</Arn>'
        f"<UserId>{instance().user_id}</UserId><Account>{ACCOUNT}</Account></GetCallerIdentityResult></{root}>"
    )


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (400, "<Code>Throttling</Code>", Throttled),
        (429, "", Throttled),
        (500, "", Unavailable),
        (503, "<Code>ServiceUnavailable</Code>", Unavailable),
        (302, "", Unavailable),
        (403, "<Code>AccessDenied</Code>", NotAuthenticated),
        (200, "", Unavailable),
        (200, "{}", Unavailable),
        (200, "<a", Unavailable),
        (200, _answer(root="AssumeRoleResponse"), Unavailable),
        (200, _answer(f"{instance().arn}</Arn><Arn>{instance().arn}"), Unavailable),
        (200, _answer("&e;", f'<!DOCTYPE x [<!ENTITY e "{escape(instance().arn)}">]>'), Unavailable),
        (200, _answer() + " " * ec2.MAX_ANSWER, Unavailable),
        (200, _answer("arn:aws:sts::" + "1" * 300), NotAuthenticated),
    ],
)
def test_only_an_answer_in_the_form_of_sts_is_believed(
    status: int, text: str, error: type[Exception], sts: Sts
) -> None:
    sts.instead = (status, text)

    with pytest.raises(error) as raised:
        an_identity(sts.url).cloud_id(a_proof())
    assert len(str(raised.value)) < 500


def test_sts_cannot_send_us_elsewhere(sts: Sts) -> None:
    elsewhere = Sts(instance())
    sts.instead, sts.location = (307, ""), elsewhere.url

    with pytest.raises(Unavailable, match="307"):
        an_identity(sts.url).cloud_id(a_proof())
    assert elsewhere.asked == []
    elsewhere.close()


def test_an_sts_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="No answer"):
        an_identity("http://127.0.0.1:9").cloud_id(a_proof())


def test_an_sts_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unavailable, match="No answer"):
        an_identity(f"http://127.0.0.1:{silent.getsockname()[1]}").cloud_id(a_proof())


def test_no_refusal_tells_the_secrets(sts: Sts) -> None:
    credentials = instance().credentials
    sts.instead = (403, "<Code>InvalidClientTokenId</Code>")
    told = []
    for proof in (a_proof(), *REFUSED.values()):
        with pytest.raises(NotAuthenticated) as raised:
            an_identity(sts.url).cloud_id(proof)
        told.append(str(raised.value))

    assert not [text for text in told if credentials.session_token in text or "Signature=" in text]
