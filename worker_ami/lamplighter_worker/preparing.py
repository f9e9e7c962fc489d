"""Everything between a lease and the start of the run: image, code, inputs, config files."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lamplighter.contract.job import Call, Input, Job
from lamplighter.contract.report import Held, Inputs
from lamplighter.errors import Forbidden
from lamplighter_worker.environment import is_on
from lamplighter_worker.files import remove_tree
from lamplighter_worker.rundir import RunDirectory
from lamplighter_worker.runtimes import MachineFault, Runtime


@dataclass(frozen=True, slots=True)
class Supplies:
    """What this machine offers to every run."""

    cache_directory: Path
    cache_mib: int
    networks: str


class Preparation:
    """`ask` gets the resolved inputs from the control plane; `check` raises when the attempt is to end."""

    def __init__(
        self,
        run: RunDirectory,
        runtime: Runtime,
        supplies: Supplies,
        *,
        control_url: str,
        ask: Callable[[Held], Inputs],
        say: Callable[[str], None],
        phase: Callable[[str], None],
        check: Callable[[], None],
    ) -> None:
        self._run = run
        self._job: Job = run.state.job
        self._runtime = runtime
        self._supplies = supplies
        self._control_url = control_url
        self._ask = ask
        self._say = say
        self._show = phase
        self._check = check

    def prepare(self, api: Any) -> None:
        """Makes the directories and fills them; `api` is the content of `api.json`.

        Raises a `LamplighterError` that says what could not be had, `MachineFault` when the disk is full, and what `check` raises.
        """
        try:
            self._run.clear()
            answer = self._ask(Held(self._job.epoch))
            self._fetch_code(answer.code)
            inputs = self._fetch_inputs(answer.inputs)
            self._write_config(inputs, api)
            self._phase("preparing the image")
            prepared = self._runtime.prepare(self._job, self._say, self._check)
            self._run.update(prepared=prepared)
        except OSError as e:
            raise MachineFault(_disk_trouble(e)) from e

    def _fetch_code(self, fresh: Call | None) -> None:
        from lamplighter_worker.code import fetch_code
        from lamplighter_worker.transfer import Transfer

        code = self._job.code if fresh is None else replace(self._job.code, call=fresh)
        if not code.call.url:
            return  # a run without a repository, such as a notebook
        self._phase("fetching code")
        self._say("Fetching code")
        transfer = Transfer(trusted_origin=self._control_url)
        directory, scratch = self._run.path / "repository", self._run.path / "scratch"
        try:
            fetch_code(code, directory, scratch, transfer=transfer)
        except Forbidden:
            again = self._ask(Held(self._job.epoch)).code
            if again is None:
                raise
            fetch_code(replace(code, call=again), directory, scratch, transfer=transfer)

    def _fetch_inputs(self, inputs: tuple[Input, ...]) -> dict[str, Any]:
        from lamplighter_worker.cache import Cache
        from lamplighter_worker.inputs import fetch_inputs

        self._check()
        if is_on(self._job, "VH_CLEAN"):
            remove_tree(self._supplies.cache_directory)
        wanted = self._supplies.cache_mib > 0 and not is_on(self._job, "VH_NO_DATA_CACHE")
        return fetch_inputs(
            inputs,
            directory=self._run.path / "inputs",
            cache=Cache(self._supplies.cache_directory, self._supplies.cache_mib) if wanted else None,
            networks=self._supplies.networks,
            refresh=lambda: self._ask(Held(self._job.epoch)).inputs,
            phase=self._phase,
            say=self._say,
            visible_directory=self._runtime.visible(self._run.path)["inputs"],
            trusted_origin=self._control_url,
        )

    def _write_config(self, inputs: dict[str, Any], api: Any) -> None:
        from lamplighter_worker.config_files import write_config

        contents = {name: value for name, value in self._job.config.items() if _is_name(name)}
        write_config(self._run.path / "config", {**contents, **({} if api is None else {"api": api}), "inputs": inputs})

    def _phase(self, text: str) -> None:
        self._check()
        self._show(text)


def _is_name(name: str) -> bool:
    return bool(name) and all(c.isascii() and (c.isalnum() or c in "_-") for c in name)


def _disk_trouble(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "this machine's disk is full"
    return f"this machine cannot prepare the run: {error}"
