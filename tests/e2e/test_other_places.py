"""Data in an S3-compatible store, and images in a registry that wants a password."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import boto3

from tests.e2e.conftest import NewServer
from tests.e2e.image import ensure_image
from tests.e2e.server import LAMPLIGHTER, RunningServer
from tests.e2e.services import image_registry, s3_service
from tests.e2e.vh import VhHome


def operator(server: RunningServer, *words: str, said: str = "", env: dict[str, str] | None = None) -> str:
    """What the operator of a server types beside it; gives what was printed."""
    done = subprocess.run(
        [str(LAMPLIGHTER), *words, "--state", str(server.state)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(server.state), **(env or {})},
        input=said,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_inputs_come_from_a_bucket_and_outputs_go_there(new_server: NewServer, tmp_path: Path) -> None:
    with s3_service(tmp_path) as endpoint:
        keys = {"aws_access_key_id": "somebody", "aws_secret_access_key": "hush"}
        bucket = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
        bucket.create_bucket(Bucket="lake")
        for key in ("set/a.txt", "set/deep/b.txt", "set/c.bin", "other/d.txt"):
            bucket.put_object(Bucket="lake", Key=key, Body=key.encode())
        server = new_server("process")
        options = ["--bucket", "lake", "--endpoint-url", endpoint, "--region", "us-east-1", "--default"]
        secret = {"LAMPLIGHTER_STORE_SECRET_KEY": "hush"}
        operator(server, "store", "add", "lake", *options, "--access-key-id", "somebody", env=secret)
        vh = VhHome(server, tmp_path / "home").log_in()

        vh.run("collect", "--files=s3://lake/set/**.txt")

        ended = vh.ended()
        collected = vh.output(ended, "collected.json")
        assert json.loads(collected) == {"a.txt": "set/a.txt", "deep/b.txt": "set/deep/b.txt"}
        (output,) = server.outputs(ended)
        assert output["uri"].startswith("s3://lake/")
        key = output["uri"].removeprefix("s3://lake/")
        assert bucket.get_object(Bucket="lake", Key=key)["Body"].read() == collected


def test_an_image_is_pulled_from_a_registry_that_wants_a_password(new_server: NewServer, tmp_path: Path) -> None:
    with image_registry(tmp_path, "alice", "pull-me-12345") as registry:
        image = f"{registry}/team/python-utils:3.11"
        keep_image(image, "alice", "pull-me-12345", tmp_path)
        server = new_server("docker")
        vh = VhHome(server, tmp_path / "home").log_in()

        vh.run("prep", "--image", image)

        refused = vh.ended(status="error")
        assert registry in refused["status_detail"]
        operator(server, "registry", "add", registry, "--username", "alice", "--password-stdin", said="pull-me-12345\n")
        vh.run("prep", "--image", image)
        ended = vh.ended()
        assert ended["ran"]["image_digest"]
        assert "pull-me-12345" not in json.dumps(vh.execution())
        subprocess.run(["docker", "rmi", image], capture_output=True, timeout=60, check=False)


def keep_image(image: str, username: str, password: str, folder: Path) -> None:
    """Push the tests' own image under another name, and forget it here."""
    docker = ["docker", "--config", str(folder / "docker")]
    login = [*docker, "login", "--username", username, "--password-stdin", image.partition("/")[0]]
    subprocess.run(login, input=password, text=True, capture_output=True, timeout=60, check=True)
    subprocess.run([*docker, "tag", ensure_image(), image], timeout=60, check=True)
    subprocess.run([*docker, "push", "-q", image], capture_output=True, timeout=120, check=True)
    subprocess.run([*docker, "rmi", image], capture_output=True, timeout=60, check=True)
