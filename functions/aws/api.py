"""The door for people and their clients: every route of the API and the little web page."""

from __future__ import annotations

import hashlib
import io
import logging
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from functions.api import make_api
from functions.aws import gateway
from functions.aws.wiring import sandbox_world
from functions.bodies import compressed
from functions.failures import MethodNotAllowed, answer_for
from functions.later import Once
from functions.messages import API_HEADERS, Answer, Head
from functions.pages import PAGE_HEADERS, page_for
from functions.routes.base import IMPORT_PACKAGE
from lamplighter.errors import AlreadyWritten, NotFound
from lamplighter.world import World

if TYPE_CHECKING:
    from functions.resolver import Admitted, Api

_log = logging.getLogger(__name__)


def make_handler(world: Callable[[], World]) -> Callable[[gateway.Event, Any], dict[str, Any]]:
    """What Lambda calls with each event of the gateway. `world` may raise: the client is told, the next call tries again."""
    api = Once(lambda: make_api(world()))

    def handle(event: gateway.Event, context: object = None) -> dict[str, Any]:  # noqa: ARG001 - Lambda gives it
        try:
            head = gateway.head_of(event)
            if not head.path.startswith("/api/"):
                return gateway.response(event, *_page(head))
            plain = _answer(api(), head, event)
            answer = compressed(plain, head)
            answer = answer if gateway.fits(answer) else _elsewhere(plain, head, world())
        except Exception as error:
            answer = answer_for(error)
        return gateway.response(event, answer)

    return handle


def _answer(api: Api, head: Head, event: gateway.Event) -> Answer:
    admitted = api.admit(head)
    if isinstance(admitted, Answer):
        return admitted
    body = gateway.body_of(event)
    if body and admitted.route.operation_id == IMPORT_PACKAGE:
        return _import_package(api, admitted, body)
    return api.perform(admitted, body)


def _import_package(api: Api, admitted: Admitted, body: bytes) -> Answer:
    from functions.parcels import Parcel  # only uploads need the parser of multipart
    from functions.routes.packages import need_project

    need_project(admitted.call, admitted.arguments["project_id"])
    kind = admitted.head.headers.get("content-type", "")
    with Parcel(kind, Path(tempfile.gettempdir()), api.world.installation.max_upload_bytes) as parcel:
        parcel.feed(body)
        parcel.close()
        return api.perform(admitted, parcel)


def _elsewhere(answer: Answer, head: Head, world: World) -> Answer:
    """An answer that the platform does not carry is put beside the logs for a day, and the client is sent there."""
    if head.method != "GET" or answer.status != 200:
        _log.error("%s %s: an answer of %d bytes cannot be carried", head.method, head.path, len(answer.body))
        size = f"The answer has {len(answer.body)} bytes, more than this platform carries"
        text = f"{size}; what was asked is done. Look at the outcome by GET, in smaller parts."
        return Answer.of(500, {"message": text, "code": "answer_too_large"})
    store = world.stores.named(world.stores.home("logs"))
    key = f"answers/{world.now():%Y-%m-%d}/{hashlib.sha256(answer.body).hexdigest()}"
    with suppress(AlreadyWritten):
        store.put(key, io.BytesIO(answer.body), size=len(answer.body))
    target = store.presign_get(key, seconds=world.installation.presign_seconds)
    return Answer(302, headers={"Location": target.url})


def _page(head: Head) -> tuple[Answer, Any]:
    page = page_for(head.path)
    if not page:
        return answer_for(NotFound(f"There is nothing at {head.path}.")), API_HEADERS
    if head.method != "GET":
        return answer_for(MethodNotAllowed(head.method, ("GET", "HEAD"))), API_HEADERS
    return page, PAGE_HEADERS


handler = make_handler(sandbox_world("dynamodb_http"))
