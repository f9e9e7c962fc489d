"""Put together what an agent needs for one attempt: script, configuration files, limits, and calls it may make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamplighter import keys
from lamplighter.contract.job import Call, Code, Job, Limits
from lamplighter.contract.wire import format_time
from lamplighter.domain.environments import Environment
from lamplighter.domain.executions import Execution
from lamplighter.domain.leases import Lease
from lamplighter.domain.projects import Commit, Project, User
from lamplighter.domain.runtime_config import RuntimeConfig, read_runtime_config
from lamplighter.errors import NotFound
from lamplighter.ports import Target
from lamplighter.records import find
from lamplighter.usecases.registries import login_for
from lamplighter.world import World

DEFAULT_NO_OUTPUT_SECONDS = 8 * 3600
"""The limit users of `valohai.yaml` expect when a step names none."""


def compose_job(execution: Execution, lease: Lease, job_token: str, *, world: World) -> Job:
    """The job as the agent will run it. Secrets are read here, once per lease, and leave only in this answer."""
    project = find(world.metadata, Project, keys.project(execution.project_id))
    environment = find(world.metadata, Environment, keys.environment(execution.environment_id))
    secrets = _secrets(execution, world)
    login = login_for(execution.organisation_id, execution.image, world=world)
    asked = read_runtime_config(execution.runtime_config)
    return Job(
        execution_id=execution.id,
        project_id=execution.project_id,
        counter=execution.counter,
        epoch=lease.epoch,
        lease_seconds=lease.seconds,
        next_seq=lease.next_seq,
        code=code_of(execution, world=world),
        image=execution.image,
        script=execution.script,
        environment={**execution.environment_variables, **secrets},
        config={
            "parameters": dict(execution.parameters),
            "execution": _execution_json(execution, project.value if project else None, environment, world),
            "runtime": dict(execution.runtime_config),
            "api": _api_json(execution, job_token, world),
        },
        limits=_limits(execution, asked, environment.value if environment else None),
        stop_condition=execution.stop_expression,
        secrets=(*secrets.values(), *((login.password,) if login else ())),
        registry=login,
        debug_port=asked.debug_port,
        debug_key=asked.debug_key,
    )


def code_of(execution: Execution, *, world: World) -> Code:
    """The archive of the commit, with a call that works for a while. A notebook has none: size 0 and no URL."""
    commit = find(world.metadata, Commit, keys.commit(execution.project_id, execution.commit))
    if not commit:
        return Code(Call(""), "", 0)
    store = world.stores.named(commit.value.archive_store or world.stores.home("code"))
    target = store.presign_get(commit.value.archive_key, seconds=world.installation.presign_seconds)
    return Code(call_of(target), commit.value.archive_sha256, commit.value.archive_size)


def call_of(target: Target) -> Call:
    """A store's signed call in the words of the worker contract."""
    return Call(target.url, target.method, dict(target.headers))


def _secrets(execution: Execution, world: World) -> dict[str, str]:
    values = {}
    for name, secret in execution.secret_variables.items():
        try:
            values[name] = world.secrets.get(secret)
        except NotFound:
            # The variable was deleted after the submission: the run sees it as a user of a shell would, unset.
            continue
    return values


def _limits(execution: Execution, asked: RuntimeConfig, environment: Environment | None) -> Limits:
    options = environment.options if environment else {}
    return Limits(
        time_limit=execution.time_limit,
        no_output_timeout=execution.no_output_timeout or DEFAULT_NO_OUTPUT_SECONDS,
        stop_grace=_option(options, "stop_grace") or 15,
        memory_mib=asked.memory_mib or _option(options, "memory_mib"),
        cpus=asked.cpus or _option(options, "cpus"),
        pids=_option(options, "pids") or 4096,
    )


def _option(options: Mapping[str, Any], name: str) -> int | None:
    value = options.get(name)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _execution_json(execution: Execution, project: Project | None, environment: Any, world: World) -> dict[str, Any]:
    creator = find(world.metadata, User, keys.user(execution.creator_id))
    facts = {
        "commit-identifier": execution.commit,
        "creator-id": execution.creator_id,
        "creator-name": execution.creator_name,
        "creator-email": (creator.value.email if creator else "") or None,
        "environment-id": execution.environment_id,
        "environment-name": environment.value.name if environment else execution.environment_slug,
        "environment-slug": execution.environment_slug,
        "execution-counter": execution.counter,
        "execution-ctime": format_time(execution.ctime),
        "execution-qtime": format_time(execution.qtime) if execution.qtime else None,
        "execution-duration": None,
        "execution-id": execution.id,
        "execution-image": execution.image,
        "execution-status": execution.status.value,
        "execution-step": execution.step,
        "execution-tags": list(execution.tags),
        "execution-title": execution.title or None,
        "project-id": execution.project_id,
        "project-name": f"{project.owner_name}/{project.name}" if project else None,
        "pipeline-counter": None,
        "pipeline-id": None,
        "pipeline-node-id": None,
        "pipeline-tags": [],
        "pipeline-title": None,
        "task-counter": None,
        "task-id": None,
    }
    return {f"valohai.{name}": value for name, value in facts.items()}


def _api_json(execution: Execution, job_token: str, world: World) -> dict[str, Any]:
    base = f"{world.installation.url}/api/worker/v0/executions/{execution.id}/job"
    headers = {"Authorization": f"Job {job_token}"}
    return {
        "set_status_detail": {"method": "POST", "url": f"{base}/status-detail/", "headers": headers},
        "input_request": {"method": "GET", "url": f"{base}/inputs/", "headers": headers},
        "trigger_catalog": {"method": "GET", "url": f"{base}/triggers/", "headers": headers},
    }
