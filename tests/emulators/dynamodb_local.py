"""DynamoDB Local, Amazon's own server for tests, as a process on a free port, with everything in memory."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

from tests.e2e.ports import free_port
from tests.emulators.processes import end

HOME_OF_IT = Path(__file__).parents[2] / ".cache" / "dynamodb-local"
START_SECONDS = 60


class DynamoDbLocal:
    """One server; use it in a `with`. `folder` gets its log. Any credentials are accepted, and all share its tables."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "dynamodb-local.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DynamoDbLocal:
        """Ready when this returns. Raises `RuntimeError` with one line that says what to do."""
        if not (HOME_OF_IT / "DynamoDBLocal.jar").exists() or not shutil.which("java"):
            raise RuntimeError("DynamoDB Local is not installed: run `make emulators`")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *("java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
                    "-Djava.library.path=./DynamoDBLocal_lib",
                    *(
                        "-jar",
                        "DynamoDBLocal.jar",
                        "-sharedDb",
                        "-inMemory",
                        "-disableTelemetry",
                        "-port",
                        str(self.port),
                    ),
                ],
                cwd=HOME_OF_IT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._stop()
                raise RuntimeError(f"DynamoDB Local does not start: see {self.log}")
            time.sleep(0.05)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _stop(self) -> None:
        process, self._process = self._process, None
        end(process)
