"""Accept a request for a run: merge it with the commit's step, check it, and queue it in one transaction."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from lamplighter import keys
from lamplighter.contract.wire import decode, encode
from lamplighter.domain.environments import Environment
from lamplighter.domain.executions import Execution, ExecutionInput, Status
from lamplighter.domain.leases import Lease
from lamplighter.domain.projects import Commit, Principal, Project
from lamplighter.domain.runtime_config import read_runtime_config
from lamplighter.errors import Invalid
from lamplighter.intents import intend, record
from lamplighter.ports import ABSENT, Put, StepPlan, Write
from lamplighter.records import Stored, again_on_conflict, find, new, taking_turns
from lamplighter.usecases.access import need_project
from lamplighter.usecases.check_order import SubmitExecution, check_order, upload_store_of
from lamplighter.usecases.commits import get_commit
from lamplighter.usecases.data import resolve_input_url
from lamplighter.usecases.environments import resolve_environment
from lamplighter.usecases.status_events import status_event
from lamplighter.world import World

MAX_INPUT_DATA = 40
"""Data inputs whose use is recorded as lineage in the submission's own transaction (of 100 writes at most)."""


@again_on_conflict
def submit_execution(
    principal: Principal, order: SubmitExecution, *, idempotency_key: str | None = None, world: World
) -> Execution:
    """The queued execution. The same idempotency key with the same order gives the same execution for ever.

    Raises `Invalid` with every fault of the request, `NotFound` for a project the caller may not see. Repeating without a key
    makes another execution.
    """
    digest = hashlib.sha256(json.dumps(encode(order), sort_keys=True).encode()).hexdigest()
    earlier = _submitted_before(principal, idempotency_key, digest, world)
    if earlier:
        return earlier
    project = need_project(principal, order.project_id, world=world)
    commit = _commit(principal, order, world)
    plan = world.blueprints.plan(
        commit.config,
        order.step,
        parameters=order.parameters,
        inputs=order.inputs,
        image=order.image,
        command=order.command,
        environment_variables=order.environment_variables,
    )
    return queue_plan(principal, order, project, commit, plan, (idempotency_key, digest), world)


def _submitted_before(principal: Principal, key: str | None, digest: str, world: World) -> Execution | None:
    if not key:
        return None
    seen = world.metadata.get(keys.idempotency(principal.organisation_id, key))
    if not seen:
        return None
    if seen.value["digest"] != digest:
        raise Invalid.because("This idempotency key was used for another request: use a fresh one.", "idempotency_key")
    stored = find(world.metadata, Execution, keys.execution(seen.value["execution_id"]))
    return stored.value if stored else None


def _commit(principal: Principal, order: SubmitExecution, world: World) -> Commit:
    commit = get_commit(principal, order.commit, order.project_id, world=world)
    if not commit.config:
        why = commit.config_error or f"it has no {commit.yaml_path}"
        raise Invalid({"commit": [f"Commit {commit.identifier[:12]} cannot be run: {why}"]})
    return commit


def queue_plan(
    principal: Principal,
    order: SubmitExecution,
    within: Stored[Project],
    commit: Commit,
    plan: StepPlan,
    idempotency: tuple[str | None, str],
    world: World,
) -> Execution:
    """Record the run of a plan that is settled. `idempotency` is the client's key, if any, and the digest of its order."""
    project = within.value
    environment = resolve_environment(
        principal, order.environment, project=project, step_environment=plan.environment, world=world
    )
    check_order(order, plan, environment)
    upload_store = upload_store_of(project, plan, world=world)
    with taking_turns(project.id):
        counter = world.metadata.get(keys.counter(project.id))
        number = (counter.value["last"] if counter else 0) + 1
        execution = _execution(principal, order, project, commit, plan, environment, number, world)
        # What could not be read again must not be stored: one such record would be in everybody's way.
        execution = decode(Execution, encode(replace(execution, upload_store=upload_store)))
        writes = [within.unchanged(), *_writes(execution, world)]
        writes.append(Put(keys.counter(project.id), {"last": number}, counter.version if counter else ABSENT))
        key, digest = idempotency
        if key:
            writes.append(
                new(keys.idempotency(principal.organisation_id, key), {"execution_id": execution.id, "digest": digest})
            )
        writes.append(
            record(world, project.organisation_id, principal.username, "execution.submit", execution.id, step=plan.step)
        )
        world.metadata.transact(writes)
    world.nudge()
    return execution


def _execution(
    principal: Principal,
    order: SubmitExecution,
    project: Project,
    commit: Commit,
    plan: StepPlan,
    environment: Environment,
    number: int,
    world: World,
) -> Execution:
    now = world.now()
    variables, secrets = _variables(order, project, plan)
    time_limit = order.time_limit if order.time_limit is not None else plan.time_limit
    asked = read_runtime_config(order.runtime_config)
    autorestart = order.autorestart if order.autorestart is not None else asked.autorestart
    return Execution(
        id=world.new_id(),
        organisation_id=project.organisation_id,
        project_id=project.id,
        counter=number,
        creator_id=principal.user_id,
        creator_name=principal.username,
        commit=commit.identifier,
        adhoc=commit.adhoc,
        step=plan.step,
        environment_id=environment.id,
        environment_slug=environment.slug,
        image=plan.image,
        command=plan.command,
        script=plan.script,
        ctime=now,
        mtime=now,
        qtime=now,
        status=Status.QUEUED,
        status_detail="Waiting for a machine",
        title=order.title,
        step_icon=plan.icon,
        tags=tuple(dict.fromkeys(order.tags)),
        priority=order.priority,
        parameters=dict(plan.parameters),
        inputs=_inputs(principal, project, plan, world),
        environment_variables=variables,
        secret_variables=secrets,
        runtime_config=dict(order.runtime_config),
        time_limit=time_limit or None,
        no_output_timeout=asked.no_output_timeout or plan.no_output_timeout,
        stop_expression=order.stop_expression or plan.stop_condition,
        autorestart=bool(plan.autorestart if autorestart is None else autorestart),
        needs=dict(plan.resources),
        notebook=order.notebook,
    )


def _variables(order: SubmitExecution, project: Project, plan: StepPlan) -> tuple[dict[str, str], dict[str, str]]:
    """Lowest first: the project's, then the step's with the request's. Secrets are kept by name only."""
    shared = project.environment_variables if order.inherit_environment_variables else {}
    plain = {name: v.value or "" for name, v in shared.items() if not v.secret}
    secrets = {name: v.secret_name for name, v in shared.items() if v.secret}
    plain.update(plan.environment_variables)
    return plain, {name: secret for name, secret in secrets.items() if name not in plan.environment_variables}


def _inputs(principal: Principal, project: Project, plan: StepPlan, world: World) -> tuple[ExecutionInput, ...]:
    faults: dict[str, list[str]] = {}
    resolved = []
    for item in plan.inputs:
        urls = []
        for url in item.urls:
            try:
                urls.append(resolve_input_url(principal, project, url, world=world))
            except Invalid as error:
                faults.setdefault(f"inputs.{item.name}", []).append(str(error))
        resolved.append(
            ExecutionInput(item.name, tuple(urls), item.keep_directories, item.filename, item.on_demand, item.optional)
        )
    if faults:
        raise Invalid(faults)
    return tuple(resolved)


def _writes(execution: Execution, world: World) -> list[Write]:
    now = execution.ctime
    entry = keys.queue_entry(execution.environment_id, execution.priority, now, execution.id)
    data_read = {url.removeprefix("datum://") for i in execution.inputs for url in i.urls if url.startswith("datum://")}
    return [
        new(keys.execution(execution.id), execution),
        new(keys.lease(execution.id), Lease(execution.id, generation=world.installation.generation)),
        new(keys.execution_by_counter(execution.project_id, execution.counter), {"execution_id": execution.id}),
        new(keys.live_in_project(execution.project_id, execution.counter), {"execution_id": execution.id}),
        new(keys.live_in_environment(execution.environment_id, execution.id), {"execution_id": execution.id}),
        new(entry, {"execution_id": execution.id}),
        status_event(execution.id, "Queued: waiting for a machine", now),
        intend(world, "start_execution", execution_id=execution.id),
        intend(world, "ensure_capacity", environment_id=execution.environment_id),
        *(
            new(keys.used_by(datum_id, execution.id), {"execution_id": execution.id})
            for datum_id in sorted(data_read)[:MAX_INPUT_DATA]
        ),
    ]
