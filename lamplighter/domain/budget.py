"""What machines cost on a day, and when that is enough: arithmetic, without calls. Days are UTC; money is USD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_UP, Decimal

from lamplighter.domain.capacity import Hold
from lamplighter.domain.machines import Machine

_MICRO = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Spending:
    """What machines that ended on a day have cost on that day."""

    settled_usd: Decimal = Decimal("0")

    def plus(self, usd: Decimal) -> Spending:
        """One more has ended."""
        return replace(self, settled_usd=self.settled_usd + usd)


def cost_on(day: date, machine: Machine, now: datetime) -> Decimal:
    """What the machine has cost on `day` until `now`, to a millionth of a dollar, rounded up.

    Counted from its request to its confirmed end: a little more than the cloud will ask for. One that its cloud never started
    costs nothing.
    """
    if not machine.cloud_id:
        return Decimal("0")
    midnight = datetime.combine(day, time(), UTC)
    begin = max(machine.requested_at, midnight)
    end = min(machine.gone_at or now, midnight + timedelta(days=1))
    microseconds = max(0, (end - begin) // timedelta(microseconds=1))
    return (machine.per_hour_price_usd * microseconds / 3_600_000_000).quantize(_MICRO, ROUND_UP)


def spent_on(day: date, settled: Spending, living: Sequence[Machine], now: datetime) -> Decimal:
    """Settled costs of the day, and what living machines have cost on it so far."""
    return settled.settled_usd + sum((cost_on(day, machine, now) for machine in living), Decimal("0"))


def over_budget(budget: Decimal, spent: Decimal, now: datetime) -> Hold | None:
    """The reason to start no machine today, or None while money is left."""
    if spent < budget:
        return None
    midnight = datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
    minutes = int((midnight - now).total_seconds()) // 60
    text = f"today's budget of ${budget} is spent (${spent:.2f} since 00:00 UTC)"
    return Hold(
        f"{text}; machines are started again at 00:00 UTC, in {minutes // 60} h {minutes % 60} min", "budget_spent"
    )
