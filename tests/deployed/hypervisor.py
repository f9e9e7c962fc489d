"""Gives the emulated EC2 real machines: for each instance that is started there, a container of the worker's image boots."""

from __future__ import annotations

import base64
import threading
from collections.abc import Sequence
from typing import Any

from tests.image.instance import Instance

EVERY_SECONDS = 0.3


class Hypervisor:
    """Boots with the user data of the instance's launch template, and the keys of the worker's role in its metadata service.

    A container that powers off is an instance that is terminated, as the launch template says; an instance that is terminated
    is a container that is powered off. `booted` keeps every machine there ever was.
    """

    def __init__(self, ec2: Any, sts: Any, user_data: str, *, role: str, region: str, images: Sequence[str]) -> None:
        self._ec2 = ec2
        self._sts = sts
        self._role = role
        self._region = region
        self._images = images
        self._user_data = user_data
        self.booted: dict[str, Instance] = {}
        self.faults: list[BaseException] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hypervisor", daemon=True)

    def __enter__(self) -> Hypervisor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for instance in self.booted.values():
            instance.stop()

    def logs(self) -> str:
        """What every machine has said."""
        told = [f"--- {name}\n{instance.logs()}" for name, instance in self.booted.items()]
        return "\n".join([*told, *(f"the hypervisor failed: {fault!r}" for fault in self.faults)])

    def _run(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            try:
                self._look()
            except Exception as fault:
                self.faults.append(fault)

    def _look(self) -> None:
        for machine in self._machines():
            name, state = machine["InstanceId"], machine["State"]["Name"]
            if state in ("pending", "running") and name not in self.booted:
                self.booted[name] = self._boot(name)
            elif state in ("pending", "running") and not self.booted[name].is_on:
                self._ec2.terminate_instances(InstanceIds=[name])
            elif state in ("shutting-down", "terminated") and name in self.booted and self.booted[name].is_on:
                self.booted[name].power_off()

    def _machines(self) -> list[dict[str, Any]]:
        pages = self._ec2.get_paginator("describe_instances").paginate()
        return [machine for page in pages for group in page["Reservations"] for machine in group["Instances"]]

    def _boot(self, name: str) -> Instance:
        # They are got now: the metadata service lives in a network of its own.
        keys = self._credentials(name)
        return Instance(
            self._user_data,
            instance_id=name,
            images=self._images,
            credentials=lambda: keys,
            role=self._role,
            region=self._region,
        ).start()

    def _credentials(self, name: str) -> dict[str, str]:
        """What EC2 gives to an instance: a session of the role, named after the instance."""
        account = self._sts.get_caller_identity()["Account"]
        role = f"arn:aws:iam::{account}:role/{self._role}"
        got = self._sts.assume_role(RoleArn=role, RoleSessionName=name)["Credentials"]
        return {
            "AccessKeyId": got["AccessKeyId"],
            "SecretAccessKey": got["SecretAccessKey"],
            "Token": got["SessionToken"],
        }


def user_data_of(ec2: Any, template: str) -> str:
    """The user data that machines of this launch template are given."""
    found = ec2.describe_launch_template_versions(LaunchTemplateId=template)["LaunchTemplateVersions"]
    return base64.b64decode(found[-1]["LaunchTemplateData"]["UserData"]).decode()
