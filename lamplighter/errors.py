"""Every failure that Lamplighter can explain, in one tree, each with a stable code.

A message is written for the person who reads it at night: what was attempted, on what, what came back, what to try.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class LamplighterError(Exception):
    """Base of all explained failures. `code` never changes once released: clients and alarms match on it."""

    code = "error"

    def told(self) -> str:
        """The failure in one line for a log or a status: everything that is needed to know what it is about."""
        return str(self)


class Invalid(LamplighterError):
    """What was sent cannot be accepted; nothing was changed.

    `fields` names each faulty field with its messages; the key "non_field_errors" is for faults of the whole.
    A message may be a text, or a (text, code) pair where clients act on the code.
    """

    code = "invalid"

    def __init__(self, fields: Mapping[str, Sequence[str | tuple[str, str]]]) -> None:
        self.fields = {name: tuple(messages) for name, messages in fields.items()}
        texts = [m if isinstance(m, str) else m[0] for messages in self.fields.values() for m in messages]
        super().__init__("; ".join(texts))

    def told(self) -> str:
        """With the names of the faulty fields, which the messages alone leave out."""
        named = [
            (name, message if isinstance(message, str) else message[0])
            for name, messages in self.fields.items()
            for message in messages
        ]
        return "; ".join(text if name == "non_field_errors" else f"{name}: {text}" for name, text in named)

    @classmethod
    def because(cls, message: str, code: str | None = None) -> Invalid:
        """A fault of the request as a whole."""
        return cls({"non_field_errors": [(message, code) if code else message]})


class NotAuthenticated(LamplighterError):
    """No valid token or session came with the call."""

    code = "not_authenticated"


class Forbidden(LamplighterError):
    """The caller is known and may not do this. Only used where existence is no secret; otherwise `NotFound`."""

    code = "forbidden"


class NotFound(LamplighterError):
    """There is no such thing, or the caller may not know of it: the two must look alike."""

    code = "not_found"


class TooLarge(LamplighterError):
    """The body is larger than this installation carries. The message names the limit and the way out."""

    code = "too_large"


class AlreadyExists(LamplighterError):
    """Something with this name or id is there already, with other content."""

    code = "already_exists"


class Conflict(LamplighterError):
    """A conditional write lost against another writer. Read again and decide again; nothing was written."""

    code = "conflict"


class StaleEpoch(LamplighterError):
    """The writer no longer holds the lease. It must stop its container; nothing was written."""

    code = "stale_epoch"


class SequenceGap(LamplighterError):
    """A batch of events does not start where the stored ones end. `expected` is the sequence number to resend from."""

    code = "sequence_gap"

    def __init__(self, expected: int) -> None:
        self.expected = expected
        super().__init__(f"events are stored up to {expected - 1}: send again from {expected}")


class Throttled(LamplighterError):
    """The other side asks us to slow down. Safe to repeat after a while."""

    code = "throttled"


class Unavailable(LamplighterError):
    """The other side did not answer, or answered with a fault of its own. Safe to repeat."""

    code = "unavailable"


class NotYet(LamplighterError):
    """The work was accepted and has not ended; ask again."""

    code = "not_yet"


class NoCapacity(LamplighterError):
    """The cloud has no such machine to give now. Try another offer, or later."""

    code = "no_capacity"


class QuotaReached(NoCapacity):
    """The cloud would give the machine if our account's limit allowed it. The message names the limit to raise."""

    code = "quota_reached"


class LaunchRefused(LamplighterError):
    """The cloud will never start this machine as asked. Change the environment; do not retry."""

    code = "launch_refused"


class AlreadyWritten(LamplighterError):
    """A write-once object is there already."""

    code = "already_written"


def kind_of(error: LamplighterError) -> type[LamplighterError]:
    """The class of this tree that the failure belongs to: adapters may derive their own, which nobody else matches on."""
    return next(kind for kind in type(error).__mro__ if kind.__module__ == __name__)


def plainly(error: LamplighterError) -> LamplighterError:
    """The failure as one of this tree: itself, unless an adapter has derived its class."""
    kind = kind_of(error)
    return error if type(error) is kind else kind(error.told())
