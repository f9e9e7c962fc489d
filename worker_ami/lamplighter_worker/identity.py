"""Who this machine is, and what it shows a control plane to be let in."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol

from lamplighter.contract import ec2_proof
from lamplighter.contract.report import Nonce, Proof
from lamplighter.contract.sigv4 import Credentials, signed_headers
from lamplighter.contract.wire import encode
from lamplighter.errors import Unavailable
from lamplighter_worker.link import Link
from lamplighter_worker.metadata_service import MetadataService

_META_DATA = "/latest/meta-data"
_ROLE = f"{_META_DATA}/iam/security-credentials/"


class Identity(Protocol):
    """How an agent introduces its machine."""

    @property
    def machine_id(self) -> str:
        """The control plane's id of the machine; empty for one that learns it when it registers."""

    @property
    def tries(self) -> int:
        """How often in a row the control plane may refuse the introduction before the agent believes it."""

    def marks(self) -> dict[str, str]:
        """What tells this machine from others: a session with other marks is not its own. Raises `Unavailable`."""

    def authorization(self, link: Link) -> str:
        """The Authorization header for one attempt to register. Raises `Unavailable`, `Throttled`, `OSError`."""


@dataclass(frozen=True)
class JoinToken:
    """A machine that was given its id, and a token in a file."""

    machine_id: str
    file: Path
    tries: ClassVar[int] = 1

    def marks(self) -> dict[str, str]:
        return {"machine_id": self.machine_id}

    def authorization(self, link: Link) -> str:  # noqa: ARG002 - others ask for a nonce
        return f"Join {self.file.read_text().strip()}"


@dataclass(frozen=True)
class Ec2Instance:
    """An EC2 machine, which knows nothing but what its metadata service tells. The role's credentials stay in memory.

    A refusal may be the fault of a clock that is being set, or of an answer that was lost after the nonce was spent: the next
    attempt signs anew. The attempts last about half a minute.
    """

    service: MetadataService
    installation: str
    machine_id: ClassVar[str] = ""
    tries: ClassVar[int] = 10

    def marks(self) -> dict[str, str]:
        return {"instance_id": self._read(f"{_META_DATA}/instance-id"), "installation": self.installation}

    def authorization(self, link: Link) -> str:
        nonce = link.post("nonce/", {}, Nonce).nonce
        proof = Proof("ec2", nonce, self._signed(nonce))
        return f"Proof {base64.b64encode(json.dumps(encode(proof)).encode()).decode()}"

    def _signed(self, nonce: str) -> dict[str, Any]:
        region = self._read(f"{_META_DATA}/placement/region")
        url = ec2_proof.sts_url(region)
        ours = {
            "Content-Type": ec2_proof.CONTENT_TYPE,
            ec2_proof.NONCE_HEADER: nonce,
            ec2_proof.INSTALLATION_HEADER: self.installation,
        }
        headers = signed_headers(
            ec2_proof.METHOD,
            url,
            service="sts",
            region=region,
            credentials=self._credentials(),
            now=datetime.now(UTC),
            headers=ours,
            body=ec2_proof.BODY.encode(),
        )
        return {"method": ec2_proof.METHOD, "url": url, "headers": headers, "body": ec2_proof.BODY}

    def _credentials(self) -> Credentials:
        role = self._read(_ROLE).split("\n")[0]
        text = self._read(_ROLE + role)
        try:
            told = json.loads(text)
            return Credentials(str(told["AccessKeyId"]), str(told["SecretAccessKey"]), str(told["Token"]))
        except (ValueError, KeyError, TypeError):
            # Not chained: what could not be read may hold half a secret.
            raise Unavailable(f"The metadata service gave no credentials of the role {role}. Asking again.") from None

    def _read(self, path: str) -> str:
        text = (self.service.get(path) or "").strip()
        if not text:
            raise Unavailable(
                f"The metadata service has nothing at {path}. An EC2 machine has it; the launch template must name an"
                " instance profile."
            )
        return text
