"""EC2 machines prove themselves with a signed `sts:GetCallerIdentity`, which we send on to STS: whom STS names, that one it is.

The signed request is written by whoever wants in, so nothing of it decides where it goes or what it asks: address, method and body
are ours to the letter, the headers are those of a list, and every one of them is covered by the signature.
"""

from __future__ import annotations

import hmac
import http.client
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

from lamplighter.contract import ec2_proof
from lamplighter.errors import Invalid, LamplighterError, NotAuthenticated, Throttled, Unavailable
from lamplighter.ports import Json

TIMEOUT = 3.0
"""Seconds without a word from STS; it answers within a fraction of one."""

MAX_VALUE = 4096
MAX_ANSWER = 16 * 1024

_NONCE, _INSTALLATION = ec2_proof.NONCE_HEADER.lower(), ec2_proof.INSTALLATION_HEADER.lower()
_NEEDED = frozenset({"host", "x-amz-date", "content-type", _NONCE, _INSTALLATION})
_ALLOWED = _NEEDED | {"authorization", "x-amz-security-token"}
_NAMESPACE = "{https://sts.amazonaws.com/doc/2011-06-15/}"
_THROTTLED = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"})


class Ec2Identity:
    """Confirms instances of one account that run under one role, in one region. May be used from several threads.

    The instance's id is the session name that EC2 gives to its role's credentials
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html, `aws:userid`); so nothing but
    `ec2.amazonaws.com` may be trusted to assume the role. `endpoint_url` is where to ask instead of the regional STS, for
    emulators; without it, `AWS_ENDPOINT_URL_STS` and `AWS_ENDPOINT_URL` are.
    """

    def __init__(
        self, *, region: str, account: str, role: str, installation: str, endpoint_url: str | None = None
    ) -> None:
        asked = endpoint_url or os.environ.get("AWS_ENDPOINT_URL_STS") or os.environ.get("AWS_ENDPOINT_URL")
        self._endpoint = urlsplit(asked or ec2_proof.sts_url(region))
        if self._endpoint.scheme not in ("http", "https") or not self._endpoint.hostname:
            raise Invalid.because(f"{asked!r} is no address of an STS. It looks like {ec2_proof.sts_url(region)}")
        self._url, self._host = ec2_proof.sts_url(region), ec2_proof.sts_host(region)
        self._account, self._role, self._installation = account, role, installation
        self._authorization = re.compile(
            rf"AWS4-HMAC-SHA256 Credential=\w{{16,128}}/\d{{8}}/{re.escape(region)}/sts/aws4_request,"
            r" ?SignedHeaders=([a-z0-9;-]{1,500}), ?Signature=[0-9a-f]{64}",
            re.ASCII,
        )
        self._arn = re.compile(
            rf"arn:aws[a-z-]*:sts::{re.escape(account)}:assumed-role/{re.escape(role)}/(i-[0-9a-f]{{8,17}})"
        )

    def cloud_id(self, proof: Json) -> str:
        """The id of the instance that signed `proof`, the JSON of a `lamplighter.contract.report.Proof` whose nonce the caller
        has judged. Raises `NotAuthenticated`, `Throttled`, `Unavailable`. May be repeated for as long as STS takes the signature.
        """
        headers = self._checked(proof)
        status, answer = self._ask(headers)
        if status != 200:
            raise _refusal(status, answer)
        return self._instance(answer)

    # --- what was sent -----------------------------------------------------------------------------------------------

    def _checked(self, proof: Json) -> dict[str, str]:
        """The headers to send on, by lower-case name."""
        evidence = proof.get("evidence")
        if not isinstance(evidence, Mapping):
            raise _unlike("there is no signed request in it")
        wanted = {"method": ec2_proof.METHOD, "url": self._url, "body": ec2_proof.BODY}
        for name, value in wanted.items():
            if evidence.get(name) != value:
                raise _unlike(f"the {name} is not {value!r}")
        headers = _headers(evidence.get("headers"))
        signed = self._authorization.fullmatch(headers["authorization"])
        if not signed or set(signed[1].split(";")) != headers.keys() - {"authorization"}:
            raise _unlike("it is not signed for this region's STS with every one of its headers")
        ours = {
            "host": self._host,
            "content-type": ec2_proof.CONTENT_TYPE,
            _NONCE: str(proof.get("nonce")),
            _INSTALLATION: self._installation,
        }
        for name, value in ours.items():
            if not hmac.compare_digest(headers[name].encode(), value.encode()):
                raise _unlike(f"the signed header {name} has another value")
        return headers

    # --- what STS says -----------------------------------------------------------------------------------------------

    def _ask(self, headers: Mapping[str, str]) -> tuple[int, str]:
        kind = http.client.HTTPSConnection if self._endpoint.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._endpoint.hostname or "", self._endpoint.port, timeout=TIMEOUT)
        try:
            connection.request(ec2_proof.METHOD, "/", body=ec2_proof.BODY.encode(), headers=dict(headers))
            response = connection.getresponse()
            content = response.read(MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException) as e:
            raise Unavailable(f"No answer from STS at {self._endpoint.netloc}: {type(e).__name__}. Ask again.") from e
        finally:
            connection.close()
        if len(content) > MAX_ANSWER:
            raise Unavailable(f"STS at {self._endpoint.netloc} answered with more than {MAX_ANSWER} bytes. Ask again.")
        return response.status, content.decode("utf-8", "replace")

    def _instance(self, answer: str) -> str:
        arn, user, account = (_only(answer, name) for name in ("Arn", "UserId", "Account"))
        found = self._arn.fullmatch(arn)
        if not found or account != self._account or user.rpartition(":")[2] != found[1]:
            raise NotAuthenticated(
                f"STS confirms {arn[:200]!r}, which is no instance under the role {self._role} of account {self._account}."
            )
        return found[1]


def _headers(given: Any) -> dict[str, str]:
    """By lower-case name: the needed ones are there, none is strange, none comes twice."""
    if not isinstance(given, Mapping):
        raise _unlike("there are no headers")
    headers: dict[str, str] = {}
    for name, value in given.items():
        lower = str(name).lower()
        if lower not in _ALLOWED or lower in headers:
            raise _unlike(f"the header {str(name)[:50]!r} does not belong there")
        if not isinstance(value, str) or len(value) > MAX_VALUE or not value.isascii() or not value.isprintable():
            raise _unlike(f"the value of the header {lower} is no plain text of at most {MAX_VALUE} characters")
        headers[lower] = value
    if missing := sorted(_NEEDED - headers.keys() | {"authorization"} - headers.keys()):
        raise _unlike(f"the header {missing[0]} is missing")
    return headers


def _only(answer: str, name: str) -> str:
    """The text of the one element of this name in what must be a `GetCallerIdentityResponse`."""
    if "<!" in answer:  # no declarations, so no entities: there is nothing to expand
        raise Unavailable("STS answered with what is no GetCallerIdentityResponse. Ask again.")
    try:
        root = ElementTree.fromstring(answer)  # noqa: S314 - bounded, and without declarations
    except ElementTree.ParseError as e:
        raise Unavailable("STS answered with what is no XML. Ask again.") from e
    results = root.findall(f"{_NAMESPACE}GetCallerIdentityResult")
    texts = [e.text or "" for result in results for e in result.findall(_NAMESPACE + name)]
    if root.tag != f"{_NAMESPACE}GetCallerIdentityResponse" or len(texts) != 1:
        raise Unavailable("STS answered with what is no GetCallerIdentityResponse. Ask again.")
    return texts[0]


def _refusal(status: int, answer: str) -> LamplighterError:
    found = re.search(r"<Code>([A-Za-z.]{1,100})</Code>", answer)
    told = f"STS answered {status} {found[1] if found else ''}".rstrip()
    if status == 429 or (found and found[1] in _THROTTLED):
        return Throttled(f"{told}. Ask again later.")
    if status in (400, 401, 403):
        return NotAuthenticated(
            f"{told}: it does not confirm this signature. Sign anew, with the right time and credentials."
        )
    return Unavailable(f"{told}. Ask again.")


def _unlike(why: str) -> NotAuthenticated:
    return NotAuthenticated(f"This is no proof of an EC2 machine: {why}.")
