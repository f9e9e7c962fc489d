"""A CloudFormation stack as its operator sees it: what it has made, and whether that is there. For the command line, by boto3."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, ProfileNotFound

from lamplighter.contract.sigv4 import Credentials
from lamplighter.errors import Forbidden, LamplighterError, NotFound, Unavailable

_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "ExpiredToken", "InvalidClientTokenId"}
_MISSING = {
    "StateMachineDoesNotExist",
    "InvalidLaunchTemplateId.NotFound",
    "InvalidLaunchTemplateId.Malformed",
}


class Stack:
    """The stack `name`. Without `region` it is the one of the environment or of the profile, as in every AWS tool.

    Every method raises `Forbidden` for credentials that are missing or may not look, and `Unavailable`.
    """

    def __init__(self, name: str, region: str | None = None) -> None:
        """Raises `NotFound` when no region is known, or the profile of AWS_PROFILE is not."""
        self.name = name
        try:
            self._session = boto3.Session(region_name=region or os.environ.get("AWS_REGION"))
        except ProfileNotFound as error:
            raise NotFound(f"{error}: look at `aws configure list-profiles`, or set AWS_PROFILE to another.") from error
        self.region = str(self._session.region_name or "")
        if not self.region:
            raise NotFound(
                f"In which region is the stack {name}? Give --region, or set AWS_REGION or AWS_DEFAULT_REGION."
            )

    def outputs(self) -> dict[str, str]:
        """What the stack tells of itself, by name. Raises `NotFound` when there is no such stack in this region."""
        with _asking(f"The stack {self.name} in {self.region}"):
            try:
                answer = self._client("cloudformation").describe_stacks(StackName=self.name)
            except ClientError as error:
                if "does not exist" not in str(error):
                    raise
                raise NotFound(
                    f"There is no stack {self.name} in {self.region} of this account: look at `aws cloudformation "
                    "list-stacks`, or give another --region."
                ) from error
        return {each["OutputKey"]: each["OutputValue"] for each in answer["Stacks"][0].get("Outputs", [])}

    def status(self) -> str:
        """As CloudFormation calls it, such as UPDATE_COMPLETE."""
        with _asking(f"The stack {self.name} in {self.region}"):
            return str(self._client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]["StackStatus"])

    def state_machine(self, arn: str) -> str:
        """The status of a state machine. Raises `NotFound`."""
        with _asking(f"The state machine {arn}"):
            return str(self._client("stepfunctions").describe_state_machine(stateMachineArn=arn)["status"])

    def image_of(self, template_id: str) -> str:
        """The image that a launch template starts, empty for none. Raises `NotFound`."""
        with _asking(f"The launch template {template_id}"):
            found = self._client("ec2").describe_launch_template_versions(
                LaunchTemplateId=template_id, Versions=["$Default"]
            )
        return str(found["LaunchTemplateVersions"][0]["LaunchTemplateData"].get("ImageId") or "")

    def credentials(self) -> Credentials:
        """Those of the operator, wherever boto3 finds them: environment, profile, single sign-on. Good for some minutes."""
        found = self._session.get_credentials()
        if not found:
            raise _no_credentials()
        now = found.get_frozen_credentials()
        return Credentials(str(now.access_key), str(now.secret_key), str(now.token or ""))

    def _client(self, service: str) -> Any:
        return self._session.client(service)


@contextlib.contextmanager
def _asking(what: str) -> Iterator[None]:
    try:
        yield
    except LamplighterError:
        raise
    except (NoCredentialsError, NoRegionError) as error:
        raise _no_credentials() from error
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _MISSING:
            raise NotFound(f"{what} does not exist.") from error
        if code in _DENIED:
            raise Forbidden(f"{what} may not be looked at with these AWS credentials: {error}") from error
        raise Unavailable(f"{what} cannot be looked at: {error}") from error
    except BotoCoreError as error:
        raise Unavailable(f"{what} cannot be looked at: {error}") from error


def _no_credentials() -> Forbidden:
    return Forbidden("There are no AWS credentials here: run `aws configure` or `aws sso login`, or set AWS_PROFILE.")
