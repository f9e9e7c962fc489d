"""What no job can make its container do, whatever the job says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamplighter_worker.runtimes import Spec
from lamplighter_worker.runtimes.docker_arguments import create_arguments, environment_for

from lamplighter.contract.job import Call, Code, Epoch, Job, Limits
from lamplighter.errors import Invalid

RUN = Path("/var/lib/lamplighter/runs/e-1.1")

JOB = Job(
    execution_id="0192f3a4-7c1e-7b3a-9d2e-5f6a7b8c9d0e",
    project_id="p",
    counter=1,
    epoch=Epoch(1, 1),
    lease_seconds=900,
    next_seq=0,
    code=Code(Call("http://x/"), "", 0),
    image="python:3.12",
    script="true",
    environment={},
    config={},
    limits=Limits(memory_mib=512, cpus=1.5),
)

FORBIDDEN = (
    "--privileged",
    "--cap-add",
    "--device",
    "--pid=",
    "--network=host",
    "--net=",
    "--ipc=host",
    "--uts",
    "--userns",
    "--volumes-from",
    "--volume",
    "-v",
    "--security-opt=seccomp",
    "--security-opt=apparmor",
    "--add-host",
    "--publish",
    "-p",
    "--cgroup-parent",
    "--runtime",
    "--group-add",
)

jobs = st.builds(
    replace,
    st.just(JOB),
    image=st.one_of(
        st.just("python:3.12"),
        st.text(max_size=40),
        st.sampled_from(["--privileged", "-v/:/host", "a b", "x\n--privileged"]),
    ),
    script=st.text(max_size=60),
    environment=st.dictionaries(st.text(max_size=20), st.text(max_size=30), max_size=5),
    limits=st.builds(
        Limits,
        memory_mib=st.one_of(st.none(), st.integers(0, 10**6)),
        cpus=st.one_of(st.none(), st.floats(0, 512)),
        pids=st.one_of(st.none(), st.integers(0, 10**6)),
    ),
    debug_port=st.one_of(st.none(), st.integers(1, 65535)),
)


def arguments_for(job: Job, *, user: tuple[int, int] = (1000, 1000)) -> list[str]:
    environment = environment_for(job.environment)
    spec = Spec(job, RUN, "machine", job.environment)
    return create_arguments(spec, environment=environment, env_file=f"{RUN}/environment", user=user, gpus=True)


@given(jobs)
def test_no_job_gets_more_than_its_own_directories(job: Job) -> None:
    try:
        arguments = arguments_for(job)
    except Invalid:
        return

    end = arguments.index("--")
    options = arguments[:end]
    assert not [option for option in options if option.startswith(FORBIDDEN)]
    assert {"--cap-drop=ALL", "--security-opt=no-new-privileges", "--pull=never", "--user=1000:1000", "--init"} <= set(
        options
    )
    mounts = [
        dict(part.split("=", 1) for part in o.removeprefix("--mount=").split(",")) for o in options if "mount" in o
    ]
    assert [(m["source"], m["target"]) for m in mounts] == [
        (f"{RUN}/{name}", f"/valohai/{name}") for name in ("repository", "inputs", "outputs", "config")
    ]
    assert arguments[end + 1] == job.image
    assert not job.image.startswith("-")
    assert arguments[end + 2] == "-c"
    assert arguments[end + 3].endswith(job.script)
    assert len(arguments) == end + 4


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=6))
def test_no_variable_becomes_another_or_an_option(variables: dict[str, str]) -> None:
    try:
        environment = environment_for(variables)
    except Invalid:
        return

    by_line = dict(line.split("=", 1) for line in environment.lines.split("\n") if line)
    assert {**by_line, **environment.by_name} == variables
    assert all(not name.upper().startswith(("DOCKER_", "LD_")) for name in environment.by_name)


@pytest.mark.parametrize("name", ["PATH", "LD_PRELOAD", "DOCKER_HOST", "HTTPS_PROXY", "HOME"])
def test_what_the_docker_command_reads_itself_cannot_be_given_to_it(name: str) -> None:
    with pytest.raises(Invalid):
        environment_for({name: "two\nlines"})


def test_limits_become_limits_of_the_container() -> None:
    arguments = arguments_for(JOB)

    assert {"--memory=512m", "--memory-swap=512m", "--cpus=1.50", "--pids-limit=4096"} <= set(arguments)


def test_a_directory_that_would_break_the_mount_is_refused() -> None:
    spec = Spec(JOB, Path("/var/lib/a,readonly=false/e"), "machine", {})

    with pytest.raises(Invalid):
        create_arguments(spec, environment=environment_for({}), env_file="/x", user=(0, 0))
