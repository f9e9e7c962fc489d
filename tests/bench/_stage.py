"""What the benchmarks share: a server and a project of their own, and tables of figures beside their floors."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import io
import json
import os
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.api import until
from tests.e2e.server import RunningServer

IMAGE = "lamplighter/python-utils:3.11"
TICKS = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="lamplighter-bench-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def server(runtime: str, *options: str) -> Iterator[RunningServer]:
    """`lamplighter up` on the loopback; it and all that it started end with the block."""
    with place() as folder:
        running = RunningServer(folder / "state", runtime, *options, idle_seconds=600)
        try:
            yield running.start()
        except BaseException:
            print(running.tail(3000), flush=True)
            raise
        finally:
            running.stop()


class Project:
    """A project with one step per command, as ad-hoc code."""

    def __init__(self, running: RunningServer, steps: dict[str, str]) -> None:
        self.server = running
        self.id = running.post("/api/v0/projects/", {"name": f"bench-{uuid.uuid4()}"})["id"]
        self.commit = self.upload(archive({"valohai.yaml": blueprint(steps)}))

    def upload(self, code: bytes) -> str:
        """Send an archive of code; its identifier."""
        head = (
            b'--parts\r\nContent-Disposition: form-data; name="data"; filename="code.tgz"\r\n'
            b"Content-Type: application/gzip\r\n\r\n"
        )
        body = b"".join((head, code, b"\r\n--parts--\r\n"))
        path = f"/api/v0/projects/{self.id}/import-package/"
        kind = "multipart/form-data; boundary=parts"
        return str(Caller(self.server).send("POST", path, body, kind)["identifier"])

    def order(self, step: str) -> dict[str, Any]:
        return {"project": self.id, "commit": self.commit, "step": step}

    def submit(self, step: str) -> str:
        """The id of a new execution."""
        return str(self.server.post("/api/v0/executions/", self.order(step))["id"])

    def ended(self, execution_id: str, *, seconds: float = 100) -> Any:
        """The execution once it is complete."""

        def look() -> Any:
            found = self.server.get(f"/api/v0/executions/{execution_id}/")
            assert found["status"] not in ("error", "crashed", "stopped"), found
            return found if found["status"] == "complete" else None

        return until(look, "the execution is complete", seconds=seconds, every=0.02)

    def run(self, step: str) -> Any:
        return self.ended(self.submit(step))

    def said(self, execution_id: str) -> list[str]:
        return self.server.events({"id": execution_id})


class Caller:
    """One kept-alive connection."""

    def __init__(self, running: RunningServer) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=100)
        self._authorization = f"Token {running.token}"

    def send(self, method: str, path: str, body: bytes, kind: str, authorization: str = "") -> Any:
        """The JSON of the answer. Raises `AssertionError` for a refusal."""
        headers = {"Content-Type": kind, "Authorization": authorization or self._authorization}
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status < 400, f"{method} {path}: {answer.status} {content[:500]!r}"
        return json.loads(content)


def blueprint(steps: dict[str, str]) -> bytes:
    """A `valohai.yaml`."""
    return json.dumps(
        [{"step": {"name": name, "image": IMAGE, "command": command}} for name, command in steps.items()]
    ).encode()


def archive(files: dict[str, bytes]) -> bytes:
    """The files as a tar.gz."""
    out = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def moment(text: str) -> float:
    """Unix seconds of a time in the API's form."""
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def cpu_seconds(pid: int) -> float:
    """What the process has used, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def timed(work: Any) -> float:
    """Seconds that the call takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"
