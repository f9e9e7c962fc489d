"""Faults at every outside effect of a use case: before it, after it, by death, by throttling, and stale reads.

    def claim_is_safe() -> None:
        scenario = Scenario(
            world=lambda plan: Claims(FaultMetadata(MemoryMetadata(), plan), FaultCloud(SomeCloud(), plan)),
            act=lambda world: world.claim("job-1"),
        )
        enumerate_faults(scenario, check=lambda world: world.has_one_machine(), pairs=True)

Outside effects (transact, put, delete, launch, terminate, start, resume, fail, stop) are numbered 1, 2, ... in the order in
which they are tried, over all ports of one plan. Reads are numbered apart, for the mode "stale" alone.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Generic, Literal, TypeVar

from lamplighter.errors import LamplighterError, Throttled, Unavailable
from lamplighter.ports import (
    Check,
    Cloud,
    CloudMachine,
    Json,
    Key,
    LaunchRequest,
    Metadata,
    ObjectInfo,
    Page,
    Record,
    Store,
    Target,
    Workflow,
    Write,
)

Mode = Literal["before", "after", "kill_before", "kill", "throttle", "stale"]

EFFECT_MODES: tuple[Mode, ...] = ("before", "after", "kill_before", "kill", "throttle")
"""What may happen at an effect. Nothing is done in "before", "kill_before" and "throttle"; all of it in "after" and "kill"."""

MODES: tuple[Mode, ...] = (*EFFECT_MODES, "stale")
"""All. The port promises fresh reads; "stale" shows which decisions rest on that promise instead of on a condition."""

T = TypeVar("T")
W = TypeVar("W")


class Killed(BaseException):
    """The process died here. Nothing but the test may catch it."""


@dataclass(frozen=True)
class Fault:
    """`mode` happens at the effect number `at`, or for "stale" at the read number `at`; each once."""

    at: int
    mode: Mode


class FaultPlan:
    """Which faults happen, and what was seen. One plan serves every wrapped port of a world.

    `count` is the number of effects tried so far, `reads` that of reads of metadata, `effects` names the effects in order
    and `fired` are the faults that happened. While not `armed` nothing is counted and nothing goes wrong. After a kill
    every call dies until `revive`: a dead process does nothing.
    """

    def __init__(self, *faults: Fault) -> None:
        self.count = 0
        self.reads = 0
        self.effects: list[str] = []
        self.fired: list[Fault] = []
        self._faults = faults
        self._dead = False
        self.armed = True
        self._lock = threading.RLock()

    def effect(self, name: str, do: Callable[[], T]) -> T:
        """Does one effect, or what the plan has for it."""
        mode = self._mode_of_effect(name)
        if mode is None:
            return do()
        if mode == "before":
            raise Unavailable(f"{name}: the fault plan lost the call")
        if mode == "throttle":
            raise Throttled(f"{name}: the fault plan asks to slow down")
        if mode in ("after", "kill"):
            # A refusal is an answer as well, and is lost like any other.
            with contextlib.suppress(LamplighterError):
                do()
        if mode == "after":
            raise Unavailable(f"{name}: the fault plan lost the answer")
        with self._lock:
            self._dead = True
        raise Killed(name)

    def is_stale(self) -> bool:
        """Counts a read of metadata, and tells whether it shall give what was there before the last write."""
        with self._lock:
            self.require_life()
            if not self.armed:
                return False
            self.reads += 1
            return self._fire(self.reads, ("stale",)) is not None

    def require_life(self) -> None:
        """Raises `Killed` again when the process is dead."""
        with self._lock:
            if self._dead:
                raise Killed("this process died before: it cannot do anything more")

    def revive(self) -> None:
        """A new process takes over: calls work again, numbers and faults go on."""
        with self._lock:
            self._dead = False

    @contextlib.contextmanager
    def calm(self) -> Iterator[None]:
        """Inside, nothing is counted and nothing goes wrong: for preparing a world, and for checking it."""
        self.revive()
        before, self.armed = self.armed, False
        try:
            yield
        finally:
            self.armed = before

    def _mode_of_effect(self, name: str) -> Mode | None:
        with self._lock:
            self.require_life()
            if not self.armed:
                return None
            self.count += 1
            self.effects.append(name)
            fault = self._fire(self.count, EFFECT_MODES)
            return None if fault is None else fault.mode

    def _fire(self, number: int, modes: tuple[Mode, ...]) -> Fault | None:
        fault = next((fault for fault in self._faults if fault.at == number and fault.mode in modes), None)
        if fault is not None:
            self.fired.append(fault)
        return fault


class FaultMetadata:
    """`Metadata` under a fault plan. A stale read knows the writes that went through this wrapper."""

    def __init__(self, inner: Metadata, plan: FaultPlan) -> None:
        self._inner = inner
        self._plan = plan
        self._before: dict[Key, Record | None] = {}

    def get(self, key: Key) -> Record | None:
        if self._plan.is_stale() and key in self._before:
            return self._before[key]
        return self._inner.get(key)

    def get_many(self, keys: Sequence[Key]) -> dict[Key, Record]:
        stale = self._plan.is_stale()
        found = self._inner.get_many(keys)
        if not stale:
            return found
        older = {key: self._before.get(key, found.get(key)) for key in keys}
        return {key: record for key, record in older.items() if record is not None}

    def query(
        self,
        partition: str,
        *,
        prefix: str = "",
        after: str | None = None,
        before: str | None = None,
        newest_first: bool = False,
        limit: int = 1000,
        cursor: str | None = None,
    ) -> Page:
        """A stale query lacks what was just created and shows older values; what was just deleted does not reappear."""
        stale = self._plan.is_stale()
        page = self._inner.query(
            partition,
            prefix=prefix,
            after=after,
            before=before,
            newest_first=newest_first,
            limit=limit,
            cursor=cursor,
        )
        if not stale:
            return page
        older = (self._before.get(record.key, record) for record in page.records)
        return Page(tuple(record for record in older if record is not None), page.cursor)

    def transact(self, writes: Sequence[Write]) -> None:
        self._plan.effect(f"transact({_summary(writes)})", lambda: self._transact(writes))

    def _transact(self, writes: Sequence[Write]) -> None:
        written = [write.key for write in writes if not isinstance(write, Check)]
        older = self._inner.get_many(written)
        self._inner.transact(writes)
        if self._plan.armed:
            self._before.update({key: older.get(key) for key in written})


class FaultStore:
    """`Store` under a fault plan. What others do with signed targets is no effect of ours."""

    def __init__(self, inner: Store, plan: FaultPlan) -> None:
        self._inner = inner
        self._plan = plan

    def put(self, key: str, body: BinaryIO, *, size: int) -> None:
        self._plan.effect(f"put({key})", lambda: self._inner.put(key, body, size=size))

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        self._plan.require_life()
        return self._inner.get(key, start=start, end=end)

    def head(self, key: str) -> ObjectInfo:
        self._plan.require_life()
        return self._inner.head(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._plan.require_life()
        return self._inner.list(prefix)

    def delete(self, key: str) -> None:
        self._plan.effect(f"delete({key})", lambda: self._inner.delete(key))

    def presign_get(self, key: str, *, seconds: int, filename: str | None = None) -> Target:
        self._plan.require_life()
        return self._inner.presign_get(key, seconds=seconds, filename=filename)

    def presign_put(self, key: str, *, seconds: int, size: int) -> Target:
        self._plan.require_life()
        return self._inner.presign_put(key, seconds=seconds, size=size)


class FaultCloud:
    """`Cloud` under a fault plan."""

    def __init__(self, inner: Cloud, plan: FaultPlan) -> None:
        self._inner = inner
        self._plan = plan

    def launch(self, request: LaunchRequest) -> CloudMachine:
        return self._plan.effect(f"launch({request.machine_id})", lambda: self._inner.launch(request))

    def describe(self, installation: str) -> tuple[CloudMachine, ...]:
        self._plan.require_life()
        return self._inner.describe(installation)

    def terminate(self, machine_id: str) -> None:
        self._plan.effect(f"terminate({machine_id})", lambda: self._inner.terminate(machine_id))


class FaultWorkflow:
    """`Workflow` under a fault plan."""

    def __init__(self, inner: Workflow, plan: FaultPlan) -> None:
        self._inner = inner
        self._plan = plan

    def start(self, definition: str, name: str, argument: Json) -> None:
        self._plan.effect(f"start({definition}, {name})", lambda: self._inner.start(definition, name, argument))

    def resume(self, token: str, output: Json) -> None:
        self._plan.effect(f"resume({token})", lambda: self._inner.resume(token, output))

    def fail(self, token: str, error: str, cause: str) -> None:
        self._plan.effect(f"fail({token})", lambda: self._inner.fail(token, error, cause))

    def stop(self, name: str, cause: str) -> None:
        self._plan.effect(f"stop({name})", lambda: self._inner.stop(name, cause))


@dataclass(frozen=True)
class Scenario(Generic[W]):
    """What is put through faults.

    `world` builds a fresh world whose ports are wrapped with the plan it is given; what it does to prepare is neither
    counted nor hurt. `act` is the first try, and may fail as the faults have it. `redeliver` is what the outside does then,
    at least once and until it gets through, even when the first try went well: a message comes twice, a sweep runs. Without
    one, `act` is repeated until it gets through once, as a client does that holds an idempotency key. The world must behave
    alike in every run: give it a clock and ids of its own.
    """

    world: Callable[[FaultPlan], W]
    act: Callable[[W], object]
    redeliver: Callable[[W], object] | None = None


@dataclass(frozen=True)
class Enumerated:
    """`effects` and `reads` of a first try without faults, and how many `schedules` of faults were run."""

    effects: int
    reads: int
    schedules: int


def enumerate_faults(
    scenario: Scenario[W], check: Callable[[W], object], *, modes: Sequence[Mode] = EFFECT_MODES, pairs: bool = False
) -> Enumerated:
    """Runs the scenario with each fault at each effect, redelivers, and checks; with `pairs`, with each two faults as well.

    The second fault of a pair may also strike the redelivery. `check` raises, best by `assert`, when the world is not as it
    should be; it may use the wrapped ports. Assert the numbers that come back, so that a new effect is noticed.
    Raises `AssertionError` that names the faults and the effects of the first schedule that fails.
    """
    _, reads_of_act, effects_of_act = _run(scenario, check, ())
    schedules = 0
    singles = [*_faults_after(0, effects_of_act, modes), *_stale_after(0, reads_of_act, modes)]
    for first in singles:
        plan, _, _ = _run(scenario, check, (first,))
        schedules += 1
        if pairs:
            for second in _second_faults(first, plan, modes):
                _run(scenario, check, (first, second))
                schedules += 1
    return Enumerated(effects_of_act, reads_of_act, schedules)


def _second_faults(first: Fault, plan: FaultPlan, modes: Sequence[Mode]) -> list[Fault]:
    """All that can follow `first`: what is tried after it was seen in the run with `first` alone."""
    if first.mode == "stale":
        return [*_faults_after(0, plan.count, modes), *_stale_after(first.at, plan.reads, modes)]
    return _faults_after(first.at, plan.count, modes)


def _faults_after(after: int, last: int, modes: Sequence[Mode]) -> list[Fault]:
    return [Fault(k, mode) for k in range(after + 1, last + 1) for mode in modes if mode != "stale"]


def _stale_after(after: int, last: int, modes: Sequence[Mode]) -> list[Fault]:
    return [Fault(k, "stale") for k in range(after + 1, last + 1)] if "stale" in modes else []


def _run(scenario: Scenario[W], check: Callable[[W], object], faults: tuple[Fault, ...]) -> tuple[FaultPlan, int, int]:
    """One schedule in a fresh world. Gives the plan, and the reads and effects of the first try."""
    plan = FaultPlan(*faults)
    try:
        with plan.calm():
            world = scenario.world(plan)
        done = _survives(plan, lambda: scenario.act(world))
        reads, effects = plan.reads, plan.count
        if not done or scenario.redeliver is not None:
            _redeliver(plan, lambda: (scenario.redeliver or scenario.act)(world), len(faults) + 1)
        unfired = set(faults) - set(plan.fired)
        # In a pair with a stale read, the other fault may make that read disappear.
        assert not unfired or len(faults) > 1, "the fault never struck: the scenario does not behave alike in every run"
        with plan.calm():
            check(world)
    except Exception as error:
        raise AssertionError(_story(plan, faults, error)) from error
    return plan, reads, effects


def _redeliver(plan: FaultPlan, attempt: Callable[[], object], tries: int) -> None:
    """Each fault can spoil one redelivery, so that one more than the faults must get through."""
    assert any(_survives(plan, attempt) for _ in range(tries)), "it still fails although no fault is left"


def _survives(plan: FaultPlan, attempt: Callable[[], object]) -> bool:
    plan.revive()
    fired = len(plan.fired)
    try:
        attempt()
    except (Unavailable, Throttled, Killed):
        # A failure that no fault explains is the scenario's own, and must be seen.
        if len(plan.fired) == fired:
            raise
        return False
    return True


def _story(plan: FaultPlan, faults: tuple[Fault, ...], error: BaseException) -> str:
    planned = ", ".join(f"({fault.at}, {fault.mode!r})" for fault in faults) or "none"
    steps = "\n".join(f"  {number}. {name}" for number, name in enumerate(plan.effects, start=1))
    return f"with faults {planned}: {type(error).__name__}: {error}\neffects tried:\n{steps}"


def _summary(writes: Sequence[Write]) -> str:
    return ", ".join(f"{type(write).__name__.lower()} {write.key.partition}/{write.key.sort}" for write in writes[:6])
