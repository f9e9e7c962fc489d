"""A stack of this clone on the emulated AWS, made as the documentation says: bundles, `sam deploy`, `lamplighter --stack`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.server import LAMPLIGHTER, ROOT
from tests.emulators.ministack import REGION, Ministack

SAM = ROOT / ".cache" / "sam" / "bin" / "sam"
BUNDLES = ROOT / ".cache" / "bundles"
SOURCES = ("template.yaml", "infra/stacks", "state_machines")

DEPLOY_SECONDS = 300


class Stack:
    """The stack `name`, built from `folder`, a copy of what `sam deploy` reads: change it there for a second version."""

    def __init__(self, aws: Ministack, name: str, folder: Path) -> None:
        self.aws = aws
        self.name = name
        self.folder = folder
        for source in SOURCES:
            there = folder / source
            there.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, there)
            else:
                shutil.copyfile(ROOT / source, there)
        (folder / "build").symlink_to(bundles())

    def deploy(self, **parameters: str) -> None:
        """Create or update it. Raises `AssertionError` with what sam said."""
        words = ["deploy", "--stack-name", self.name, "--resolve-s3", "--region", REGION, "--no-confirm-changeset"]
        words += [
            "--capabilities",
            "CAPABILITY_IAM",
            "CAPABILITY_AUTO_EXPAND",
            "--no-progressbar",
            "--no-fail-on-empty-changeset",
        ]
        words += ["--parameter-overrides", *(f"{key}={value}" for key, value in parameters.items())]
        self._sam(*words)

    def delete(self) -> None:
        """Returns when the stack is gone. `sam delete` would also remove what it uploaded, but reads no template addresses of an
        emulator.
        """
        cloudformation = self.aws.client("cloudformation")
        cloudformation.delete_stack(StackName=self.name)
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=self.name, WaiterConfig={"Delay": 1})

    def destroy(self) -> None:
        """All of it, with what the operator and the runs have put there: the documentation has the commands for people."""
        outputs = self.outputs
        for bucket in (outputs[f"{kind}Bucket"] for kind in ("Data", "Code", "Logs", "Audit")):
            self._empty(bucket)
        self.delete()
        ssm = self.aws.client("ssm")
        for page in ssm.get_paginator("get_parameters_by_path").paginate(Path=outputs["SecretsPrefix"], Recursive=True):
            for parameter in page["Parameters"]:
                ssm.delete_parameter(Name=parameter["Name"])

    def _empty(self, bucket: str) -> None:
        s3 = self.aws.client("s3")
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for one in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                which = {"Key": one["Key"], "VersionId": one["VersionId"]}
                s3.delete_object(Bucket=bucket, BypassGovernanceRetention=True, **which)

    def logs(self) -> str:
        """What its functions have logged lately."""
        logs = self.aws.client("logs")
        groups = [
            g["logGroupName"]
            for page in logs.get_paginator("describe_log_groups").paginate()
            for g in page["logGroups"]
        ]
        told = []
        for group in groups:
            events = logs.filter_log_events(logGroupName=group)["events"]
            told.append(f"--- {group}\n" + "\n".join(event["message"].rstrip() for event in events[-200:]))
        return "\n".join(told)

    @property
    def outputs(self) -> dict[str, str]:
        """By name."""
        (found,) = self.aws.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        return {row["OutputKey"]: row["OutputValue"] for row in found.get("Outputs", ())}

    def resource(self, logical: str) -> str:
        """The physical id of what the template calls `logical`."""
        found = self.aws.client("cloudformation").describe_stack_resource(
            StackName=self.name, LogicalResourceId=logical
        )
        return str(found["StackResourceDetail"]["PhysicalResourceId"])

    def lamplighter(self, *words: str, stdin: str = "", fails: bool = False) -> str:
        """The operator's command against this stack; what it printed."""
        ran = subprocess.run(
            [str(LAMPLIGHTER), "--stack", self.name, "--region", REGION, *words],
            env=self._environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (ran.returncode != 0) == fails, (
            f"lamplighter {' '.join(words)}: {ran.returncode}\n{ran.stdout}{ran.stderr}"
        )
        return ran.stdout + ran.stderr

    def _sam(self, *words: str) -> None:
        assert SAM.exists(), "the SAM CLI is not installed: run `make emulators`"
        ran = subprocess.run(
            [str(SAM), *words],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEPLOY_SECONDS,
            check=False,
        )
        assert ran.returncode == 0, f"sam {words[0]}: {ran.returncode}\n{ran.stdout[-6000:]}{ran.stderr[-6000:]}"

    def _environment(self) -> Mapping[str, str]:
        return {
            **self.aws.environment,
            "PATH": f"{SAM.parent}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "SAM_CLI_TELEMETRY": "0",
        }


def bundles() -> Path:
    """The bundles for this machine's own Python and processor, built anew."""
    script = str(ROOT / "infra" / "bundling" / "bundle.sh")
    words = [script, "--python", "3.11", "--architecture", "x86_64", "--to", str(BUNDLES)]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, f"{' '.join(words)}:\n{ran.stdout}{ran.stderr}"
    return BUNDLES


def parameters(url: str) -> dict[str, Any]:
    """What this emulator needs to be told of itself."""
    return {
        "PublicUrl": url,
        "WorkerUrl": url,
        "PythonRuntime": "python3.11",
        "Architecture": "x86_64",
        "WorkerImageId": "ami-0123456789abcdef0",
        "DeletionProtection": "false",
        "InputNetworks": "private",
    }
