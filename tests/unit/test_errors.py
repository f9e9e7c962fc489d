"""Failures go by the names of one tree, whoever raises them."""

from __future__ import annotations

from adapters.aws.patience import Refused
from lamplighter.errors import NoCapacity, QuotaReached, Throttled, Unavailable, kind_of, plainly


class OutOfOrder(Throttled):
    """One that an adapter has derived."""


def test_a_derived_failure_is_of_the_kind_that_it_derives_from() -> None:
    assert kind_of(OutOfOrder("slow down")) is Throttled
    assert kind_of(Unavailable("away")) is Unavailable
    assert kind_of(QuotaReached("16 vCPU")) is QuotaReached
    assert issubclass(Refused, Unavailable)


def test_a_derived_failure_is_told_plainly_with_the_same_words() -> None:
    plain, known = plainly(OutOfOrder("slow down")), NoCapacity("none")

    assert (type(plain), str(plain)) == (Throttled, "slow down")
    assert plainly(known) is known
