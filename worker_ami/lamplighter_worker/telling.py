"""The end of an attempt: outputs up, log complete, and then the one message that closes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from lamplighter.contract.report import (
    MOST_OUTPUTS,
    Finish,
    Finished,
    NewOutput,
    NewOutputs,
    OutputsKept,
    OutputsStored,
    OutputTarget,
    OutputTargets,
)
from lamplighter.errors import (
    Invalid,
    LamplighterError,
    NotAuthenticated,
    NotFound,
    SequenceGap,
    StaleEpoch,
    Throttled,
    TooLarge,
    Unavailable,
)
from lamplighter_worker.capture import Capture
from lamplighter_worker.clock import boottime
from lamplighter_worker.heartbeat import PATIENCE, Pulse
from lamplighter_worker.link import Link
from lamplighter_worker.notices import TELLING_SECONDS
from lamplighter_worker.rundir import RunDirectory
from lamplighter_worker.sender import Sender
from lamplighter_worker.situation import Situation
from lamplighter_worker.spool import Spool
from lamplighter_worker.stopping import Ending
from lamplighter_worker.together import Together

if TYPE_CHECKING:
    from lamplighter_worker.outputs import Outputs

T = TypeVar("T")
Metadata = Mapping[str, Mapping[str, Any]]

_TICK = 0.05
_LOOK = 0.2


class Teller:
    """Every step is written to the run's state, and repeated by a later agent if this one dies before it."""

    def __init__(self, run: RunDirectory, link: Link, situation: Situation, visible_outputs: str) -> None:
        self._run = run
        self._job = run.state.job
        self._link = link
        self._situation = situation
        self._visible_outputs = visible_outputs
        self._path = f"executions/{self._job.execution_id}/"
        self._announcing = Together(self._announce_several, MOST_OUTPUTS)
        self._storing = Together(self._store_several, MOST_OUTPUTS)

    def outputs(self, say: Callable[[str], None], control_url: str) -> Outputs:
        """The outputs of this attempt, ready to be swept."""
        from lamplighter_worker.outputs import Outputs
        from lamplighter_worker.transfer import Transfer

        for name in ("outputs", "staging"):
            (self._run.path / name).mkdir(exist_ok=True)
        return Outputs(
            self._run.path / "outputs",
            self._run.path / "staging",
            announce=self._announce,
            stored=self._stored,
            epoch=self._job.epoch,
            say=say,
            visible_directory=self._visible_outputs,
            transfer=Transfer(trusted_origin=control_url),
        )

    def upload(self, outputs: Outputs, say: Callable[[str], None]) -> None:
        """Uploads what is left. A failure turns a complete run into an error: its results are not there.

        When the cloud takes the machine back there is only so much time: then it is cut, and the ending says what is missing.
        """
        over = threading.Event()
        cutter = threading.Thread(target=self._cut_in_time, args=(outputs, over), name="cutter", daemon=True)
        cutter.start()
        try:
            ending, ids, metadata = self._uploaded(outputs, say)
        finally:
            over.set()
            cutter.join()
        ending = _without_too_large(ending, outputs.given_up())
        self._run.update(phase="uploaded", ending=ending, outputs=ids, output_metadata=metadata)

    def _uploaded(self, outputs: Outputs, say: Callable[[str], None]) -> tuple[Ending, tuple[str, ...], Metadata]:
        from lamplighter_worker.transfer import Cancelled

        ending = self._run.state.ending or Ending("lost")
        deadline = boottime() + PATIENCE
        while True:
            try:
                return ending, *outputs.finish()
            except Cancelled:
                ids, metadata, missing = outputs.saved()
                return _cut_short(ending, missing), ids, metadata
            except (Unavailable, Throttled) as e:
                self._situation.check_telling()
                if boottime() >= deadline:
                    return _without_outputs(ending, e), (), {}
                say(f"Uploading outputs again: {e}")
                self._situation.wait(5.0)
            except (StaleEpoch, NotFound, NotAuthenticated):
                raise
            except (LamplighterError, OSError) as e:
                self._situation.check_telling()
                return _without_outputs(ending, e), (), {}

    def _cut_in_time(self, outputs: Outputs, over: threading.Event) -> None:
        while not over.wait(_LOOK):
            ends = self._situation.notices.over_at
            if ends is not None and boottime() >= ends - TELLING_SECONDS:
                outputs.cut()
                return

    def flush(self, capture: Capture, sender: Sender, pulse: Pulse) -> None:
        """Returns when every event is stored and the start was told."""
        check = self._situation.check_telling
        try:
            capture.finish(check)
        except OSError as e:
            self._lost(f"this machine could not keep the log: {e}")
        sender.hurry()
        self._drain(sender)
        while not pulse.told_started():
            check()
            self._situation.wait(_TICK)

    def finish(self, spool: Spool, sender: Sender) -> Finished:
        """Tells the end until it is answered. Events that the control plane has lost meanwhile are sent again first."""
        while True:
            try:
                return self._finish(spool.next_seq)
            except SequenceGap as gap:
                if gap.expected > spool.next_seq:
                    self._lost(f"the log has {gap.expected} events, of which this machine knows {spool.next_seq}")
                    return self._finish(gap.expected)
                sender.again(gap.expected)
                self._drain(sender)

    def _finish(self, last_seq: int) -> Finished:
        state = self._run.state
        ending = state.ending or Ending("lost")
        body = Finish(
            epoch=self._job.epoch,
            outcome=ending.outcome,
            last_seq=last_seq,
            exit_code=ending.exit_code,
            reason=ending.reason[:2000],
            outputs=state.outputs,
            output_metadata=state.output_metadata,
            run_seconds=ending.run_seconds,
            notice=self._situation.notices.notice,
        )
        try:
            return self._post("finish/", body, Finished)
        except Invalid as e:
            # The facts of the end must arrive even if what user code wrote beside its outputs is refused.
            plain = replace(body, outcome="error", reason=f"the end was refused: {e}"[:2000], output_metadata={})
            return self._post("finish/", plain, Finished)
        except TooLarge as e:
            told = f"the metadata of {len(body.output_metadata)} outputs are too large to be told at the end: {e}"
            ending = _failed(ending, told)
            plain = replace(body, outcome=ending.outcome, reason=ending.reason[:2000], output_metadata={})
            return self._post("finish/", plain, Finished)

    def _drain(self, sender: Sender) -> None:
        while not sender.drained() and self._situation.log_refusal is None:
            self._situation.check_telling()
            self._situation.wait(_TICK)
        if self._situation.log_refusal is not None:
            self._lost(f"the log was refused: {self._situation.log_refusal}")

    def _lost(self, reason: str) -> None:
        ending = self._run.state.ending or Ending("lost")
        self._run.update(ending=replace(ending, outcome="lost", reason=reason))

    def _announce(self, output: NewOutput) -> OutputTarget:
        target = self._announcing(output)
        if target.code == TooLarge.code:
            raise TooLarge(target.refused)
        if target.refused:
            raise Invalid.because(target.refused)
        return target

    def _announce_several(self, outputs: Sequence[NewOutput]) -> Sequence[OutputTarget]:
        """What is refused as a whole, as too large for one call, is asked for one by one: only the culprit is to suffer."""
        try:
            return self._post("outputs/several/", NewOutputs(self._job.epoch, tuple(outputs)), OutputTargets).targets
        except (Invalid, TooLarge) as e:
            if len(outputs) > 1:
                return [target for output in outputs for target in self._announce_several([output])]
            return [OutputTarget("", None, refused=str(e))]

    def _stored(self, output_id: str) -> None:
        if fault := self._storing(output_id):
            raise Invalid.because(fault)

    def _store_several(self, output_ids: Sequence[str]) -> Sequence[str]:
        body = OutputsStored(self._job.epoch, tuple(output_ids))
        kept = self._post("outputs/several/stored/", body, OutputsKept)
        self._situation.hear(kept.orders)
        return [kept.faults.get(output_id, "") for output_id in output_ids]

    def _post(self, path: str, body: Any, answer: type[T]) -> T:
        """Asked until answered, or until it is of no use any more."""
        try:
            pause = threading.Event().wait
            return self._link.post(self._path + path, body, answer, until=self._situation.must_give_up, wait=pause)
        except (Unavailable, Throttled):
            self._situation.check_telling()
            raise
        except (StaleEpoch, NotFound, NotAuthenticated) as e:
            self._situation.refused(e)
            raise


def _cut_short(ending: Ending, missing: list[str]) -> Ending:
    """A run that had just completed is interrupted after all when its results are not there."""
    if not missing:
        return ending
    shown = ", ".join(name[:100] for name in missing[:5]) + (", ..." if len(missing) > 5 else "")
    told = f"there was no time to upload {len(missing)} outputs: {shown}"
    outcome = "interrupted" if ending.outcome == "complete" else ending.outcome
    return replace(ending, outcome=outcome, reason=f"{ending.reason}; {told}" if ending.reason else told)


def _without_too_large(ending: Ending, given_up: Mapping[str, str]) -> Ending:
    """A run is not complete without the files that no store takes. All others are kept."""
    if not given_up:
        return ending
    shown = [f"{name[:100]}: {why[:300]}" for name, why in list(given_up.items())[:3]]
    shown += [f"and {len(given_up) - 3} more"] if len(given_up) > 3 else []
    return _failed(ending, f"too large to be stored: {'; '.join(shown)}")


def _failed(ending: Ending, told: str) -> Ending:
    """A run that had completed ends in error after all; of any other it is told beside its own reason."""
    outcome = "error" if ending.outcome == "complete" else ending.outcome
    return replace(ending, outcome=outcome, reason=f"{ending.reason}; {told}" if ending.reason else told)


def _without_outputs(ending: Ending, error: Exception) -> Ending:
    return _failed(ending, f"outputs could not be uploaded: {error}")
