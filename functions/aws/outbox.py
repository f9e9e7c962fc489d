"""What transactions have promised is carried out as soon as the table's stream shows it. The sweep does what is left."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from functions.aws.streams import key_of, sequence_number, value_of
from functions.aws.wiring import sandbox_world
from lamplighter import keys
from lamplighter.errors import Throttled, Unavailable
from lamplighter.usecases.deliver_outbox import deliver_intent
from lamplighter.world import World

_log = logging.getLogger(__name__)


def make_handler(world: Callable[[], World]) -> Callable[[Mapping[str, Any], Any], dict[str, Any]]:
    """What Lambda calls with records of the stream.

    It answers the sequence number to begin again from when the metadata is out of reach; nothing else is worth holding up
    the records behind it. An intent that failed is written again with a later time, which its own record then shows: the sweep
    takes it from there.
    """

    def handle(event: Mapping[str, Any], context: object = None) -> dict[str, Any]:  # noqa: ARG001 - Lambda gives it
        for record in event["Records"]:
            if key_of(record).partition not in keys.OUTBOX or value_of(record) is None:
                continue
            try:
                deliver_intent(key_of(record), world=world())
            except (Throttled, Unavailable) as error:
                _log.warning("the outbox will be tried again from %s: %s", sequence_number(record), error)
                return {"batchItemFailures": [{"itemIdentifier": sequence_number(record)}]}
        return {"batchItemFailures": []}

    return handle


handler = make_handler(sandbox_world())
