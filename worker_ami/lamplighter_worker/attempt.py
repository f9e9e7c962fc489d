"""One attempt at one job, from lease to end: prepare, run, watch, upload, tell."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import Literal

from lamplighter.contract.report import Held, Inputs, Orders, Started
from lamplighter.errors import Invalid, LamplighterError, NotAuthenticated, NotFound, StaleEpoch, TooLarge
from lamplighter_worker.capture import Capture
from lamplighter_worker.clock import boot_id, boottime
from lamplighter_worker.contact import ContactFile
from lamplighter_worker.debugging import Door
from lamplighter_worker.environment import environment_of, is_on
from lamplighter_worker.files import remove_tree
from lamplighter_worker.heartbeat import Lease, Pulse
from lamplighter_worker.link import Link
from lamplighter_worker.notices import Notices
from lamplighter_worker.preparing import Preparation, Supplies
from lamplighter_worker.redaction import Redactor
from lamplighter_worker.relay import Relay
from lamplighter_worker.rundir import RunDirectory
from lamplighter_worker.runtimes import Ended, MachineFault, Run, Runtime, Spec
from lamplighter_worker.sender import Sender
from lamplighter_worker.situation import Left, Situation, condition_of
from lamplighter_worker.spool import Spool
from lamplighter_worker.stopping import Ending, Halted, halted, judge
from lamplighter_worker.telling import Teller
from lamplighter_worker.watching import Watch, quiet_seconds

Result = Literal["told", "fenced", "signed_out", "left"]
"""The end was told; the lease is another's; the session is over; the machine's end did not leave the time to tell."""


@dataclass(frozen=True, slots=True)
class House:
    """What an attempt uses of its machine."""

    machine_id: str
    link: Link
    runtime: Runtime
    supplies: Supplies
    heartbeat_seconds: float
    shutdown: threading.Event
    notices: Notices
    contact: ContactFile


class Attempt:
    """Goes on from whatever state its directory is in, so that an agent killed at any instant loses nothing."""

    def __init__(self, run: RunDirectory, house: House, lease: Lease) -> None:
        self._run = run
        self._job = run.state.job
        self._house = house
        self._situation = Situation(lease, house.shutdown, house.notices, run.state.stop)
        self._condition = condition_of(self._job.stop_condition, self._situation)
        self._spool = Spool(run.path / "spool", self._job.next_seq)
        watch = None if self._condition is None or isinstance(self._condition, Invalid) else self._condition.look_at
        self._capture = Capture(self._spool, run.path, Redactor(self._job.secrets), watch)
        self._capture.last_output = boottime() - quiet_seconds(run.path, time.time())
        link, job, refused = house.link, self._job, self._situation.refused
        interval, notices = house.heartbeat_seconds, house.notices
        stay = house.contact.note
        self._pulse = Pulse(link, job, lease, notices, interval=interval, orders=self._hear, refused=refused, stay=stay)
        self._sender = Sender(link, job.execution_id, job.epoch, self._spool, heard=self._pulse.heard, refused=refused)
        self._visible = house.runtime.visible(run.path)
        self._teller = Teller(run, link, self._situation, self._visible["outputs"])
        self._outputs = self._teller.outputs(self._capture.say, link.control_url)
        self._door = Door(run.path, job, self._spec().name if house.runtime.name == "docker" else None)

    def go(self) -> Result:
        """Runs the attempt to its end. The caller removes the directory unless the result is `left`."""
        for part in (self._pulse, self._capture, self._sender):
            part.start()
        self._relay = Relay.for_run(self._house.link.control_url, self._house.runtime, self._run)
        try:
            self._through()
        except (StaleEpoch, NotFound):
            return "fenced"
        except NotAuthenticated:
            return "signed_out"
        except Left:
            return "left"
        finally:
            for open_part in (
                self._pulse,
                self._sender,
                self._outputs,
                self._capture,
                self._door,
                self._relay,
                self._spool,
            ):
                open_part.close()
        return "told"

    def _through(self) -> None:
        if self._run.state.ending is None:
            self._run.update(ending=self._lived(), phase="ended")
        if self._run.state.phase == "ended":
            self._pulse.phase = "uploading outputs"
            self._teller.upload(self._outputs, self._capture.say)
        self._pulse.phase = "ending"
        ending = self._run.state.ending
        if ending is not None and ending.reason:
            self._capture.say(f"Ended: {ending.reason}")
        self._teller.flush(self._capture, self._sender, self._pulse)
        self._teller.finish(self._spool, self._sender)
        if is_on(self._job, "VH_CLEAN"):
            remove_tree(self._house.supplies.cache_directory)

    def _hear(self, orders: Orders) -> None:
        self._situation.hear(orders)
        self._sender.watched(orders.watched)

    # --- the run -----------------------------------------------------------------------------------------------------

    def _lived(self) -> Ending:
        """How the run ended, started first if need be."""
        run: Run | None = None
        try:
            run = self._adopted() or self._begun()
            ended = self._watched(run)
        except Halted:
            return halted(self._job, self._situation.stop or "user")
        except MachineFault as e:
            return Ending("lost", str(e))
        except (StaleEpoch, NotAuthenticated):
            raise
        except LamplighterError as e:
            self._situation.look()
            return Ending("error", str(e))
        finally:
            self._door.close()  # before the end is told: whoever hears of it may end us at once
            self._removed(run)
        return judge(self._job, self._unless_rebooted(ended), self._situation.stop, self._run_seconds())

    def _adopted(self) -> Run | None:
        """The run that an earlier agent started. If it never began, this is a fresh start within the same epoch."""
        state = self._run.state
        if state.phase not in ("starting", "running"):
            return None
        run = self._house.runtime.adopt(self._spec(), self._capture.say)
        if run is None:
            if state.phase == "running":
                raise MachineFault("the run vanished while the agent was away")
            self._run.update(phase="leased", start=state.start + 1)
            return None
        if state.phase == "starting":
            self._run.update(phase="running")
        if not state.told_started:
            self._tell_started()
        return run

    def _begun(self) -> Run:
        if isinstance(self._condition, Invalid):
            raise self._condition
        preparation = Preparation(
            self._run,
            self._house.runtime,
            self._house.supplies,
            control_url=self._house.link.control_url,
            ask=self._ask_for_inputs,
            say=self._capture.say,
            phase=self._show,
            check=self._situation.check,
        )
        preparation.prepare(self._relay.rewritten(self._job.config.get("api")))
        self._situation.check()
        self._run.update(phase="starting", started_at=boottime(), boot=boot_id())
        run = self._house.runtime.start(self._spec())
        self._run.update(phase="running", started_at=boottime())
        self._capture.last_output = boottime()
        self._tell_started()
        return run

    def _tell_started(self) -> None:
        prepared = self._run.state.prepared
        runtime = self._house.runtime.name
        self._pulse.started(Started(self._job.epoch, runtime, prepared.image_digest, prepared.interpreter))

    def _watched(self, run: Run) -> Ended:
        self._pulse.phase = "running"
        self._door.open(self._capture.say)
        watch = Watch(
            self._job,
            self._situation,
            self._capture,
            started_at=self._run.state.started_at,
            sweep=self._outputs.sweep_live,
            on_stop=lambda reason: self._run.update(stop=reason),
        )
        return watch.until_end(run)

    def _removed(self, run: Run | None) -> None:
        """No trace of the run stays on the machine, also of one whose start went wrong."""
        if run is not None:
            run.remove()
        else:
            self._house.runtime.sweep(self._house.machine_id, None)

    def _ask_for_inputs(self, held: Held) -> Inputs:
        path = f"executions/{self._job.execution_id}/inputs/"
        try:
            return self._house.link.post(path, held, Inputs, until=self._must_not_ask, wait=self._situation.wait)
        except TooLarge as e:
            raise TooLarge(f"this run has more input files than can be listed here, put them into archives: {e}") from e

    def _must_not_ask(self) -> bool:
        self._situation.check()
        return False

    def _show(self, phase: str) -> None:
        self._pulse.phase = phase

    def _spec(self) -> Spec:
        runtime, directory = self._house.runtime, self._run.path
        environment = environment_of(self._job, self._visible, runtime.base_environment(directory))
        return Spec(self._job, directory, self._house.machine_id, environment, self._run.state.start)

    def _run_seconds(self) -> float | None:
        state = self._run.state
        return round(boottime() - state.started_at, 3) if state.boot == boot_id() else None

    def _unless_rebooted(self, ended: Ended) -> Ended:
        if self._run.state.boot == boot_id() or ended.exit_code == 0:
            return ended
        return replace(ended, lost=True, note="the machine restarted during the run")
