"""An AWS of the test's own: ministack with our fixes, as a process, on a free port, with all its state in one directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.e2e.ports import free_port
from tests.emulators.processes import end
from tests.emulators.timeline import PASS_TIME

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".cache" / "emulators" / "bin" / "python"

REGION = "us-east-1"
ACCOUNT = "000000000000"
KEY = "test"
"""Access key, and secret, of the account's root: the only identity there is until a test makes others."""

START_SECONDS = 60


class Ministack:
    """One emulated AWS account. Use it in a `with`, or call `start` and `stop`.

    `folder` holds its state, its temporary files and `ministack.log`. `bind` is the address that it listens on; `address`
    is the one under which functions (as AWS_ENDPOINT_URL) and tests reach it: give the bridge's when containers must, too.
    `enforce_iam`: policies and signatures are checked, and functions have only the rights of their role. `held_time`: waits
    of Step Functions end only by `pass_time`. `keep`: what is there at a stop is there again after a start on this folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bind: str = "127.0.0.1",
        address: str = "127.0.0.1",
        enforce_iam: bool = False,
        held_time: bool = False,
        keep: bool = False,
    ) -> None:
        self.folder = folder
        self.log = folder / "ministack.log"
        self.port = free_port()
        self.url = f"http://{address}:{self.port}"
        self._settings = {
            "AUTH": str(enforce_iam).lower(),
            "BIND_HOST": bind,
            "GATEWAY_PORT": str(self.port),
            "HELD_TIME": str(int(held_time)),
            "IOT_MTLS_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "MINISTACK_REGION": REGION,
            "PERSIST_STATE": str(int(keep)),
            "S3_DATA_DIR": str(folder / "s3"),
            "S3_PERSIST": str(int(keep)),
            "SFTP_ENABLED": "0",
            "STATE_DIR": str(folder / "state"),
            "TMPDIR": str(folder / "tmp"),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to take this for AWS, as the account's root. Functions get it too, with their own keys."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": KEY,
            "AWS_DEFAULT_REGION": REGION,
        }

    def start(self) -> Ministack:
        """Ready when this returns. Raises `RuntimeError` with one line that says what to do."""
        if not PYTHON.exists():
            raise RuntimeError("the AWS emulator is not installed: run `make emulators`")
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        # Nothing of the caller's own AWS settings: functions would inherit them.
        here = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(PYTHON), "-m", "tests.emulators.ministack_fixed"],
                env={**here, **self._settings, **self.environment},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the AWS emulator does not start: see {self.log}")
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        """End the process, and with it every function that it runs. Repeatable."""
        process, self._process = self._process, None
        end(process)
        # Functions end by themselves when the emulator has, unless one is busy.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def __enter__(self) -> Ministack:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def client(self, service: str, **how: Any) -> Any:
        """A boto3 client of this account's root."""
        import boto3

        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": KEY, "region_name": REGION}
        return boto3.session.Session().client(service, **{"endpoint_url": self.url, **keys, **how})

    def api_url(self, api_id: str) -> str:
        """Where the stage `$default` of an HTTP API answers, for whoever cannot resolve the API's own name."""
        return f"{self.url}/_aws/execute-api/{api_id}/$default"

    def pass_time(self, seconds: int, *, step: int = 1) -> None:
        """With held time: let it pass in steps of so many seconds, each ended when all executions wait or have ended.

        With 0 seconds: return when they do.
        """
        request = urllib.request.Request(
            self.url,
            data=json.dumps({"seconds": seconds, "step": step}).encode(),
            headers={"X-Amz-Target": PASS_TIME, "Content-Type": "application/x-amz-json-1.0"},
        )
        with urllib.request.urlopen(request, timeout=2 * START_SECONDS):
            return

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=5):
                return True
        except OSError:
            return False
