"""What is said of a run that the kernel or a person has killed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lamplighter_worker.runtimes import Ended
from lamplighter_worker.stopping import judge

from lamplighter.contract.job import Limits
from tests.worker.test_container_policy import JOB


@pytest.mark.parametrize(
    ("ended", "memory_mib", "reason"),
    [
        (Ended(137, out_of_memory=True), 32, "killed: out of memory (limit 32 MiB)"),
        (Ended(137, out_of_memory=True), None, "killed: out of memory"),
        (Ended(137), 32, "killed, most likely out of memory (limit 32 MiB)"),
        (Ended(137), None, "exit code 137"),
        (Ended(1), 32, "exit code 1"),
        (Ended(137, note="the container could not be started: x"), 32, "the container could not be started: x"),
    ],
)
def test_a_kill_is_told_as_what_it_most_likely_was(ended: Ended, memory_mib: int | None, reason: str) -> None:
    job = replace(JOB, limits=Limits(memory_mib=memory_mib))

    ending = judge(job, ended, None, 1.0)

    assert (ending.outcome, ending.reason) == ("error", reason)
