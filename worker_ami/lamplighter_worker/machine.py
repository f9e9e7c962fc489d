"""A machine's life: register, ask for work, run it, ask again, until there will be none."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lamplighter.contract.report import Claim, Farewell, Offer, Register, Registered
from lamplighter.contract.wire import decode, encode
from lamplighter.errors import (
    Forbidden,
    Invalid,
    LamplighterError,
    NotAuthenticated,
    NotFound,
    Throttled,
    TooLarge,
    Unavailable,
)
from lamplighter_worker.attempt import Attempt, House
from lamplighter_worker.clock import boot_id, boottime
from lamplighter_worker.contact import ContactFile
from lamplighter_worker.files import read_json, write_json
from lamplighter_worker.heartbeat import Lease
from lamplighter_worker.identity import Identity
from lamplighter_worker.link import Link, backoff
from lamplighter_worker.notices import Notices
from lamplighter_worker.preparing import Supplies
from lamplighter_worker.rundir import RunDirectory, found_below
from lamplighter_worker.runtimes import Runtime, Spec

VERSION = "0.1.0"
SESSION = "session.json"
T = TypeVar("T")

_UNKNOWN_LEASE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    control_url: str
    identity: Identity
    directory: Path
    networks: str = "public"
    cache_mib: int = 10240
    idle_power_off_seconds: float = 1800.0
    contact_file: Path | None = None


class Machine:
    """The agent of one machine. All that must survive it is in its directory."""

    def __init__(self, options: Options, runtime: Runtime, shutdown: threading.Event, notices: Notices) -> None:
        self._options = options
        self._notices = notices
        self._directory = options.directory
        self._runtime = runtime
        self._shutdown = shutdown
        self._contact = ContactFile(options.contact_file)
        self._link = Link(options.control_url, heard=self._contact.note)
        self._registered: Registered | None = None
        self._machine_id = ""
        self._began = boottime()

    def live(self) -> str:
        """Works until the control plane says drain, ends the session, or is silent for too long; says why it ended.

        Raises `OSError` for faults of the machine's disk.
        """
        try:
            self._enter()
            self._resume()
            return self._work()
        except (NotAuthenticated, Forbidden) as e:
            (self._directory / SESSION).unlink(missing_ok=True)
            return f"the control plane refused this machine: {e}"
        except _Over as e:
            self._say_farewell(str(e))
            return str(e)

    # --- coming and going --------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        """Takes the session of an earlier agent up, or registers."""
        known = read_json(self._directory / SESSION) or {}
        marks = {"control_url": self._link.control_url, **self._options.identity.marks()}
        try:
            if any(known.get(key) != value for key, value in marks.items()):
                raise Invalid.because("there is no session of this machine yet")
            registered = decode(Registered, known.get("registered"))
        except Invalid:
            registered = self._register()
            session = {**marks, "runtime": self._runtime.name, "registered": encode(registered)}
            write_json(self._directory / SESSION, session)
        self._registered = registered
        self._machine_id = self._options.identity.machine_id or registered.machine_id
        self._link.session = registered.session

    def _register(self) -> Registered:
        identity, hello = self._options.identity, self._hello()
        refused = 0
        while True:
            try:
                return self._ask("register/", hello, Registered, lambda: identity.authorization(self._link))
            except NotAuthenticated as e:
                refused += 1
                if refused >= identity.tries:
                    raise
                tell(f"refused, introducing this machine anew: {e}")
                self._shutdown.wait(backoff(refused))

    def _hello(self) -> Register:
        return Register(
            machine_id=self._options.identity.machine_id,
            agent_version=VERSION,
            runtime=self._runtime.name,
            hostname=socket.gethostname(),
            cpus=len(os.sched_getaffinity(0)),
            memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
            disk_free_mib=shutil.disk_usage(self._directory).free // 2**20,
            runtime_detail=self._runtime.detail,
        )

    def _say_farewell(self, reason: str) -> None:
        try:
            self._link.post("farewell/", Farewell(reason), dict)
        except LamplighterError as e:
            tell(f"farewell was not heard: {e}")

    # --- work --------------------------------------------------------------------------------------------------------

    def _resume(self) -> None:
        """Goes on with the attempt that an earlier agent left; runs that nobody knows of are removed."""
        left = list(found_below(self._directory / "runs"))
        names = [Spec(run.state.job, run.path, "", {}).name for run in left]
        self._runtime.sweep(self._machine_id, names[-1] if names else None)
        for run in left:
            lease = Lease(run.path / "lease")
            if lease.boot != boot_id():
                lease.renewed(boottime(), _UNKNOWN_LEASE_SECONDS)
            tell(
                f"going on with execution {run.state.job.execution_id}, epoch {run.state.job.epoch}: {run.state.phase}"
            )
            self._attempt(run, lease)

    def _work(self) -> str:
        while True:
            if self._notices.notice:
                raise _Over(f"the cloud gave notice: {self._notices.notice}")
            sent_at = boottime()
            try:
                offer = self._ask("lease/", Claim(self._claim_id()), Offer)
            except (NotFound, Invalid, TooLarge) as e:
                tell(f"the control plane did not understand: {e}")
                offer = Offer("wait", wait_seconds=10.0)
            if offer.order == "drain":
                raise _Over("drained")
            if offer.order == "work" and offer.job is not None:
                run = RunDirectory.create(self._directory / "runs", offer.job, self._claim_id())
                lease = Lease(run.path / "lease")
                lease.renewed(sent_at, offer.job.lease_seconds)
                tell(f"leased execution {offer.job.execution_id}, epoch {offer.job.epoch}")
                self._attempt(run, lease)
            else:
                self._shutdown.wait(min(60.0, max(0.05, offer.wait_seconds)))
            if self._shutdown.is_set():
                raise _Over("shutdown")

    def _attempt(self, run: RunDirectory, lease: Lease) -> None:
        registered = self._registered
        seconds = registered.heartbeat_seconds if registered is not None else 20.0
        supplies = Supplies(self._directory / "cache", self._options.cache_mib, self._options.networks)
        tools = (self._machine_id, self._link, self._runtime, supplies, seconds)
        result = Attempt(run, House(*tools, self._shutdown, self._notices, self._contact), lease).go()
        tell(f"execution {run.state.job.execution_id}: {result}")
        if result == "left":
            raise _Over(self._notices.notice or "shutdown")
        # In this order: without the directory the old claim would be asked for again and answered with a lease that is over.
        write_json(self._directory / "claim.json", {"claim_id": str(uuid.uuid4())})
        run.remove()
        if result == "signed_out":
            raise NotAuthenticated("the session is over")

    def _claim_id(self) -> str:
        """The wish for work, written down before it is spoken, so that a lost answer can be asked for again."""
        path = self._directory / "claim.json"
        known = read_json(path)
        if isinstance(known, dict) and isinstance(known.get("claim_id"), str):
            return str(known["claim_id"])
        write_json(path, {"claim_id": (made := str(uuid.uuid4()))})
        return made

    def _ask(self, path: str, body: Any, answer: type[T], authorization: Callable[[], str] | None = None) -> T:
        """Asks while the machine is to live; `_Over` when it is not."""
        wait = self._shutdown.wait
        try:
            return self._link.post(path, body, answer, authorization=authorization, until=self._is_over, wait=wait)
        except (Unavailable, Throttled) as e:
            why = "no contact for too long" if self._registered else "not let in for too long"
            told = "shutdown" if self._shutdown.is_set() else self._notices.notice
            raise _Over(told or f"{why}: {e}") from e

    def _is_over(self) -> bool:
        """Whether it waits in vain: for a word, or, before it has a session, to be let in, however much is said."""
        limit, since = self._options.idle_power_off_seconds, self._began
        if self._registered is not None:
            limit, since = (limit and self._registered.deadman_seconds), self._link.last_contact
        ends = self._shutdown.is_set() or self._notices.interrupted
        return ends or (limit > 0 and boottime() - since >= limit)


class _Over(Exception):
    """The machine's life ends; the text says why."""


def tell(text: str) -> None:
    """A line for whoever operates the machine."""
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text, file=sys.stderr, flush=True)
