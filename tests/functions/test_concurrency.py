"""One slow request holds up nobody, and nobody gets another caller's answer."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from functions.asgi import Application
from lamplighter.ports import Key, Record
from lamplighter.usecases import people
from tests.functions.asgi_client import Client
from tests.functions.conftest import House


class _HeldMetadata:
    """Metadata whose reads of one user's record wait until the test lets them go."""

    def __init__(self, real: Any, held: str) -> None:
        self._real = real
        self._held = held
        self.asked = threading.Event()
        self.released = threading.Event()

    def get(self, key: Key) -> Record | None:
        if key.partition == self._held:
            self.asked.set()
            self.released.wait(20)
        found: Record | None = self._real.get(key)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_a_request_that_waits_for_the_metadata_does_not_stop_another(house: House) -> None:
    slow = people.create_user(None, "slow", "a password of slow", world=house.world)
    _, token = people.create_token(slow.id, "t", world=house.world)
    metadata = _HeldMetadata(house.world.metadata, f"user#{slow.id}")
    application = Application(dataclasses.replace(house.world, metadata=metadata), upload_folder=house.uploads)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Client(application, token).get, "/api/v0/users/me/")
        assert metadata.asked.wait(10)

        quick = Client(application, house.admin.token).get("/api/v0/users/me/")
        still_waiting = not waiting.done()
        metadata.released.set()
        slow_reply = waiting.result(10)
    application.close()

    assert (quick.status, quick.json["username"], still_waiting) == (200, "admin", True)
    assert slow_reply.json["username"] == "slow"


def test_many_callers_at_once_each_get_their_own_answer(house: House) -> None:
    tokens = {}
    for number in range(8):
        user = people.create_user(None, f"u{number}", "a password for all", world=house.world)
        tokens[user.username] = people.create_token(user.id, "t", world=house.world)[1]

    def ask(name: str) -> tuple[str, str]:
        return name, Client(house.application, tokens[name]).get("/api/v0/users/me/").json["username"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, list(tokens) * 25))

    assert [asked for asked, got in answers if asked != got] == []
