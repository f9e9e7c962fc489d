"""What one server answers, the functions behind the gateway answer too: two equal worlds, one story, every answer compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from functions.asgi import Application
from functions.aws import api
from lamplighter.usecases.initialise import initialise
from tests.doubles import TRAIN_YAML, make_world, targz
from tests.functions.asgi_client import Client, Reply
from tests.functions.aws.gateway_client import GatewayClient
from tests.functions.conftest import BOUNDARY, package, pieces

PASSWORD = "a long enough password"
ARCHIVE = targz({"valohai.yaml": TRAIN_YAML, "train.py": b"print(1)\n"})
MULTIPART = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
GZIP = {"accept-encoding": "gzip, deflate"}

P, C, E = "{project}", "{commit}", "{execution}"
STORY: tuple[tuple[str, str, Any, dict[str, Any]], ...] = (
    ("GET", "/api/v0/server/", None, {}),
    ("GET", "/api/health/", None, {}),
    ("GET", "/api/health", None, {}),
    ("HEAD", "/api/health/", None, {}),
    ("POST", "/api/health/", None, {}),
    ("GET", "/api//v0///server/", None, {}),
    ("GET", "/api/v0/nothing/", None, {}),
    ("GET", "/api/", None, {}),
    ("GET", "/", None, {}),
    ("GET", "/web/app.js", None, {"headers": GZIP}),
    ("GET", "/web/nothing.js", None, {}),
    ("POST", "/", None, {}),
    ("GET", "/p/default/mnist/", None, {}),
    ("GET", "/api/v0/users/me/", None, {}),
    ("GET", "/api/v0/users/me/", None, {"headers": {"authorization": "Token wrong"}}),
    ("GET", "/api/v0/users/me/", None, {"headers": {"authorization": "Basic YTpi"}}),
    ("POST", "/api/v0/get-token/", {"username": "admin", "password": "no"}, {}),
    ("POST", "/api/v0/get-token/", None, {"body": b"username=admin&password=no", "headers": FORM}),
    ("GET", "/api/openapi.json", None, {"headers": GZIP}),
    ("GET", "/api/v0/projects/", None, {}),
    ("POST", "/api/v0/projects/", {"name": "mnist"}, {}),
    ("POST", "/api/v0/projects/", {"name": "mnist"}, {}),
    ("POST", "/api/v0/projects/", {"name": ""}, {}),
    ("POST", "/api/v0/projects/", {}, {}),
    ("POST", "/api/v0/projects/", None, {}),
    ("POST", "/api/v0/projects/", None, {"body": b"name=second", "headers": FORM}),
    ("POST", "/api/v0/projects/", None, {"body": b"{", "headers": {"content-type": "application/json"}}),
    ("POST", "/api/v0/projects/", None, {"body": b'{"name": NaN}', "headers": {"content-type": "application/json"}}),
    ("POST", "/api/v0/projects/", None, {"body": b"\xff\xfe", "headers": {"content-type": "application/json"}}),
    (
        "POST",
        "/api/v0/projects/",
        None,
        {"body": b'{"name": "\\ud800"}', "headers": {"content-type": "application/json"}},
    ),
    ("POST", "/api/v0/projects/", None, {"body": b"<x/>", "headers": {"content-type": "text/xml"}}),
    ("GET", "/api/v0/projects/?limit=1&offset=0", None, {}),
    ("GET", "/api/v0/projects/?limit=x", None, {}),
    ("GET", "/api/v0/projects/?name=a&name=b&name=%C3%A9", None, {}),
    ("GET", "/api/v0/projects/?" + "a=1&" * 2100, None, {}),
    ("GET", f"/api/v0/projects/{P}/", None, {}),
    ("PATCH", f"/api/v0/projects/{P}/", {"description": "größer ✓"}, {}),
    ("GET", f"/api/v0/projects/{P}/", None, {}),
    ("GET", "/api/v0/projects/a%2Fb/", None, {}),
    ("GET", "/api/v0/projects/a%20b%25c/", None, {}),
    ("POST", f"/api/v0/projects/{P}/import-package/", None, {"chunks": pieces(package(ARCHIVE)), "headers": MULTIPART}),
    ("POST", f"/api/v0/projects/{P}/import-package/", None, {"chunks": pieces(package(ARCHIVE)), "headers": MULTIPART}),
    ("POST", f"/api/v0/projects/{P}/import-package/", None, {"chunks": [package(ARCHIVE)[:-9]], "headers": MULTIPART}),
    ("POST", f"/api/v0/projects/{P}/import-package/", None, {"chunks": [package(b"junk")], "headers": MULTIPART}),
    ("POST", f"/api/v0/projects/{P}/import-package/", {"data": 1}, {}),
    ("POST", f"/api/v0/projects/{P}/import-package/", None, {}),
    ("POST", "/api/v0/projects/none/import-package/", None, {"chunks": [package(ARCHIVE)], "headers": MULTIPART}),
    ("GET", f"/api/v0/projects/{P}/commits/", None, {}),
    ("GET", f"/api/v0/commits/?project={P}", None, {}),
    ("GET", f"/api/v0/commits/{C}/", None, {}),
    ("GET", "/api/v0/environments/", None, {}),
    ("POST", "/api/v0/executions/", {"project": P, "commit": C, "step": "train"}, {}),
    ("POST", "/api/v0/executions/", {"project": P, "commit": C, "step": "no"}, {}),
    ("POST", "/api/v0/executions/", {"project": P, "commit": C, "step": "train", "parameters": {"x": 1}}, {}),
    ("POST", "/api/v0/executions/", {}, {}),
    ("GET", f"/api/v0/executions/?project={P}&limit=5", None, {"headers": GZIP}),
    ("GET", f"/api/v0/executions/{E}/", None, {"headers": GZIP}),
    ("GET", f"/api/v0/executions/{E}/events/", None, {}),
    ("GET", f"/api/v0/executions/{E}/explain/", None, {}),
    ("GET", f"/api/v0/executions/{E}/metadata/", None, {}),
    ("POST", f"/api/v0/executions/{E}/tags/", {"tags": ["a", "b"]}, {}),
    ("GET", f"/api/v0/data/?project={P}", None, {}),
    ("GET", "/api/v0/data/none/download/", None, {}),
    ("POST", f"/api/v0/executions/{E}/stop/", None, {}),
    ("GET", f"/api/v0/executions/{E}/status-events/", None, {}),
    ("DELETE", f"/api/v0/executions/{E}/", None, {}),
    ("PUT", f"/api/v0/executions/{E}/", {}, {}),
    ("DELETE", f"/api/v0/projects/{P}/", {"name": "wrong"}, {}),
    ("POST", "/api/worker/v0/lease/", {"claim_id": "c"}, {}),
)

VARYING = re.compile(rb'"request_id":"[^"]+"|under request [0-9a-f-]+')


class Side:
    """One of two equal worlds, and the way in."""

    def __init__(self, client: Any, login: Any) -> None:
        self.client = client
        token = login.post("/api/v0/get-token/", {"username": "admin", "password": PASSWORD}).json["token"]
        self.client.token = token
        self.known: dict[str, str] = {}

    def tell(self, method: str, path: str, content: Any, more: dict[str, Any]) -> Reply:
        headers = {"host": "lamplighter.test", "x-forwarded-proto": "https", **more.get("headers", {})}
        body = json.loads(self._filled(json.dumps(content))) if content is not None else None
        reply: Reply = self.client.call(method, self._filled(path), body, **{**more, "headers": headers})
        self._learn(method, path, reply)
        return reply

    def _filled(self, text: str) -> str:
        for name, value in self.known.items():
            text = text.replace("{" + name + "}", value)
        return text

    def _learn(self, method: str, path: str, reply: Reply) -> None:
        if method != "POST" or reply.status != 201:
            return
        if path == "/api/v0/projects/":
            self.known.setdefault("project", reply.json["id"])
        elif path.endswith("/import-package/"):
            self.known["commit"] = reply.json["identifier"]
        elif path == "/api/v0/executions/":
            self.known["execution"] = reply.json["id"]


def _world() -> Any:
    world = make_world()
    world.secrets.put("installation/join-key", "test")
    initialise(admin_password=PASSWORD, environment={"slug": "local", "name": "L", "cloud": "local"}, world=world)
    return world


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    application = Application(_world(), upload_folder=tmp_path, behind_proxy=True)
    handler = api.make_handler(_world)
    yield Side(Client(application), Client(application)), Side(GatewayClient(handler), GatewayClient(handler))
    application.close()


def test_the_same_story_has_the_same_answers_word_for_word(sides: tuple[Side, Side]) -> None:
    server, functions = sides
    differing = {}

    for number, step in enumerate(STORY):
        one, other = server.tell(*step), functions.tell(*step)
        if _shown(step[0], one) != _shown(step[0], other):
            differing[f"{number} {step[0]} {step[1][:60]}"] = (_shown(step[0], one), _shown(step[0], other))

    assert differing == {}
    assert set(server.known) == {"project", "commit", "execution"}


def _shown(method: str, reply: Reply) -> tuple[int, bytes, dict[str, str]]:
    """What counts: a server adds how it sends, and only the gateway drops the body of HEAD by itself."""
    headers = {k: v for k, v in reply.headers.items() if k not in ("content-length", "connection")}
    body = b"" if method == "HEAD" else reply.body
    return reply.status, VARYING.sub(b"", body), headers
