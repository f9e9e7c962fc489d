"""Executions, as clients read them: short in lists, with every key that any client knows in detail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from functions.callers import PersonCall
from functions.presentation import projects
from functions.presentation.common import Shape, maybe_time, time
from functions.presentation.environments import EnvironmentInShort
from functions.presentation.projects import ProjectInShort
from lamplighter.domain.data import Datum
from lamplighter.domain.environments import Environment
from lamplighter.domain.executions import Execution, ExecutionInput
from lamplighter.domain.projects import Project
from lamplighter.errors import NotFound
from lamplighter.usecases import environments
from lamplighter.usecases import projects as project_usecases


class CommitInShort(Shape):
    """The commit that an execution runs."""

    identifier: str
    adhoc: bool


class InputShape(Shape):
    """An input as requested, or `_restart`: what earlier attempts of the execution have stored."""

    name: str
    urls: list[str]


class OutputShape(Shape):
    """An output in short; `GET /data/?output_execution=` tells more."""

    id: str
    name: str
    size: int
    sha256: str
    ctime: str
    purged: bool


class RanShape(Shape):
    """What really ran: `runtime` is "docker", or "process" for a plain process without a container."""

    runtime: str
    image_digest: str
    interpreter: str
    machine_id: str


class ExecutionShape(Shape):
    """An execution in a list. Times are UTC, the duration is seconds of user code."""

    id: str
    counter: int
    status: str
    status_detail: str
    title: str
    step: str
    step_icon: str | None
    ctime: str
    qtime: str | None
    start_time: str | None
    end_time: str | None
    mtime: str
    duration: float | None
    deleted: bool
    is_pinned: bool
    n_alerts: int
    n_comments: int
    n_outputs: int
    creator_id: str
    creator_name: str
    priority: int
    tags: list[str]
    task_tags: list[str]
    pipeline_tags: list[str]
    project: ProjectInShort
    environment: EnvironmentInShort
    commit: CommitInShort
    image: str
    parameters: dict[str, Any]
    cumulative_metadata: dict[str, Any]
    task: None
    task_counter: None
    pipeline: None
    pipeline_counter: None
    url: str
    urls: dict[str, str]


class ExecutionDetail(ExecutionShape):
    """An execution with all there is to know. `ran` is null until user code has started."""

    command: list[str]
    interpolated_command: str
    environment_variables: dict[str, str | None]
    runtime_config: dict[str, Any]
    time_limit: int | None
    no_output_timeout: int | None
    stop_expression: str | None
    exit_code: int | None
    parameter_categories: dict[str, Any]
    inputs: list[InputShape]
    outputs: list[OutputShape]
    executor_identity: str | None
    ran: RanShape | None
    price: None
    emissions: None


class Shelf:
    """The projects and environments that rows of one list have in common, each read once."""

    def __init__(self, call: PersonCall) -> None:
        self._call = call
        self._projects: dict[str, ProjectInShort] = {}
        self._environments: dict[str, Environment] | None = None

    def project(self, project_id: str) -> ProjectInShort:
        """The project in short; a deleted one by its id alone."""
        if project_id not in self._projects:
            self._projects[project_id] = projects.project_in_short(self._call, self._read_project(project_id))
        return self._projects[project_id]

    def environment(self, execution: Execution) -> EnvironmentInShort:
        """Never null: `vh exec info` needs the name of one even when it was deleted."""
        if self._environments is None:
            found = environments.list_environments(self._call.principal, world=self._call.world)
            self._environments = {environment.id: environment for environment in found}
        known = self._environments.get(execution.environment_id)
        name = known.name if known else execution.environment_slug
        return EnvironmentInShort(id=execution.environment_id, name=name, slug=execution.environment_slug)

    def _read_project(self, project_id: str) -> Project:
        try:
            return project_usecases.get_project(self._call.principal, project_id, world=self._call.world)
        except NotFound:
            now = self._call.world.now()
            return Project(project_id, "", "deleted", "", "deleted", now, now)


def execution(call: PersonCall, value: Execution, shelf: Shelf) -> ExecutionShape:
    """A row of a list."""
    return ExecutionShape(**_common(call, value, shelf))


def execution_detail(
    call: PersonCall, value: Execution, inputs: Sequence[ExecutionInput], outputs: Sequence[Datum]
) -> ExecutionDetail:
    """The whole execution with its inputs and outputs."""
    hidden: dict[str, str | None] = dict.fromkeys(value.secret_variables)
    return ExecutionDetail(
        **_common(call, value, Shelf(call)),
        command=list(value.command),
        interpolated_command=value.script,
        environment_variables={**value.environment_variables, **hidden},
        runtime_config=dict(value.runtime_config),
        time_limit=value.time_limit,
        no_output_timeout=value.no_output_timeout,
        stop_expression=value.stop_expression,
        exit_code=value.exit_code,
        parameter_categories={},
        inputs=[InputShape(name=i.name, urls=list(i.urls)) for i in inputs],
        outputs=[output(datum) for datum in outputs],
        executor_identity=value.ran.machine_id or None if value.ran else None,
        ran=_ran(value),
        price=None,
        emissions=None,
    )


def output(datum: Datum) -> OutputShape:
    """One output in short."""
    return OutputShape(
        id=datum.id,
        name=datum.name,
        size=datum.size,
        sha256=datum.sha256,
        ctime=time(datum.ctime),
        purged=datum.purged,
    )


def _ran(value: Execution) -> RanShape | None:
    if not value.ran:
        return None
    return RanShape(
        runtime=value.ran.runtime,
        image_digest=value.ran.image_digest,
        interpreter=value.ran.interpreter,
        machine_id=value.ran.machine_id,
    )


def _common(call: PersonCall, value: Execution, shelf: Shelf) -> dict[str, Any]:
    project = shelf.project(value.project_id)
    url = call.url(f"/api/v0/executions/{value.id}/")
    display = f"{project.urls.display}execution/{value.id}/"
    return {
        "id": value.id,
        "counter": value.counter,
        "status": value.status.value,
        "status_detail": value.status_detail,
        "title": value.title,
        "step": value.step,
        "step_icon": value.step_icon,
        "ctime": time(value.ctime),
        "qtime": maybe_time(value.qtime),
        "start_time": maybe_time(value.start_time),
        "end_time": maybe_time(value.end_time),
        "mtime": time(value.mtime),
        "duration": value.duration,
        "deleted": value.deleted,
        "is_pinned": False,
        "n_alerts": 0,
        "n_comments": 0,
        "n_outputs": value.n_outputs,
        "creator_id": value.creator_id,
        "creator_name": value.creator_name,
        "priority": value.priority,
        "tags": list(value.tags),
        "task_tags": [],
        "pipeline_tags": [],
        "project": project,
        "environment": shelf.environment(value),
        "commit": CommitInShort(identifier=value.commit, adhoc=value.adhoc),
        "image": value.image,
        "parameters": dict(value.parameters),
        "cumulative_metadata": dict(value.latest_metadata),
        "task": None,
        "task_counter": None,
        "pipeline": None,
        "pipeline_counter": None,
        "url": url,
        "urls": {
            "display": display,
            "stop": f"{url}stop/",
            "copy": f"{display}copy/",
            "copy_to_task": f"{display}copy-to-task/",
        },
    }
