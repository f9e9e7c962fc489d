"""Status lines that the control plane itself adds to an execution's log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lamplighter import keys
from lamplighter.contract.wire import format_time
from lamplighter.ports import ABSENT, Put, Record

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """Since the Unix epoch, exactly."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment(microseconds: int) -> datetime:
    """The time that many microseconds after the Unix epoch."""
    return EPOCH + timedelta(microseconds=microseconds)


def status_event(execution_id: str, message: str, now: datetime) -> Put:
    """The write of one line. The clock gives each moment once, so the key is free; if not, the transaction is decided anew."""
    return Put(keys.status_event(execution_id, microseconds(now)), {"message": message}, ABSENT)


def read_line(record: Record) -> tuple[str, str, str]:
    """(time, stream, message) as the API shows it."""
    return format_time(moment(int(record.key.sort))), "status", str(record.value["message"])
