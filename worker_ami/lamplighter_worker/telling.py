"""The end of an attempt: outputs up, log complete, and then the one message that closes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from lamplighter.contract.report import Finish, Finished, NewOutput, Orders, OutputStored, OutputTarget
from lamplighter.errors import (
    Invalid,
    LamplighterError,
    NotAuthenticated,
    NotFound,
    SequenceGap,
    StaleEpoch,
    Throttled,
    Unavailable,
)
from lamplighter_worker.capture import Capture
from lamplighter_worker.clock import boottime
from lamplighter_worker.heartbeat import Pulse
from lamplighter_worker.link import Link
from lamplighter_worker.rundir import RunDirectory
from lamplighter_worker.sender import Sender
from lamplighter_worker.situation import Situation
from lamplighter_worker.spool import Spool
from lamplighter_worker.stopping import Ending

if TYPE_CHECKING:
    from lamplighter_worker.outputs import Outputs

T = TypeVar("T")

_OUTPUT_PATIENCE = 3600.0
_TICK = 0.05


class Teller:
    """Every step is written to the run's state, and repeated by a later agent if this one dies before it."""

    def __init__(self, run: RunDirectory, link: Link, situation: Situation, visible_outputs: str) -> None:
        self._run = run
        self._job = run.state.job
        self._link = link
        self._situation = situation
        self._visible_outputs = visible_outputs
        self._path = f"executions/{self._job.execution_id}/"

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
        """Uploads what is left. A failure turns a complete run into an error: its results are not there."""
        ending = self._run.state.ending or Ending("lost")
        deadline = boottime() + _OUTPUT_PATIENCE
        ids: tuple[str, ...] = ()
        metadata: Mapping[str, Mapping[str, Any]] = {}
        while True:
            try:
                ids, metadata = outputs.finish()
                break
            except (Unavailable, Throttled) as e:
                self._situation.check_telling()
                if boottime() >= deadline:
                    ending = _without_outputs(ending, e)
                    break
                say(f"Uploading outputs again: {e}")
                self._situation.wait(5.0)
            except (StaleEpoch, NotFound, NotAuthenticated):
                raise
            except (LamplighterError, OSError) as e:
                self._situation.check_telling()
                ending = _without_outputs(ending, e)
                break
        self._run.update(phase="uploaded", ending=ending, outputs=ids, output_metadata=metadata)

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
        )
        try:
            return self._post("finish/", body, Finished)
        except Invalid as e:
            # The facts of the end must arrive even if what user code wrote beside its outputs is refused.
            plain = replace(body, outcome="error", reason=f"the end was refused: {e}"[:2000], output_metadata={})
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
        return self._post("outputs/", output, OutputTarget)

    def _stored(self, output_id: str) -> None:
        self._situation.hear(self._post(f"outputs/{output_id}/stored/", OutputStored(self._job.epoch), Orders))

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


def _without_outputs(ending: Ending, error: Exception) -> Ending:
    reason = f"{ending.reason}; " if ending.reason else ""
    outcome = "error" if ending.outcome == "complete" else ending.outcome
    return replace(ending, outcome=outcome, reason=f"{reason}outputs could not be uploaded: {error}")
