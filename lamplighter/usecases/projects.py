"""Projects: how they are made, changed, given variables and deleted."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from lamplighter import keys
from lamplighter.domain.executions import Execution, Status
from lamplighter.domain.projects import Principal, Project, Repository, Variable
from lamplighter.errors import Conflict, Forbidden, Invalid, NotFound, Throttled, Unavailable
from lamplighter.intents import record
from lamplighter.ports import ABSENT, ANY, Delete, Put, Write
from lamplighter.records import again_on_conflict, find_many, new
from lamplighter.usecases import bounds
from lamplighter.usecases.access import need_project, readable_projects
from lamplighter.usecases.environments import resolve_environment
from lamplighter.world import World

MAX_NAME = 100
MAX_REF = 200
MAX_VALUE_BYTES = 32 * 1024
MAX_VARIABLES = 200
MAX_VARIABLES_BYTES = 256 * 1024
SUMMARY_STEP = 50
"""How many more executions must have ended before the saved count is written anew."""

_NAME = re.compile(r"[^\W_][\w .-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,199}")
_REF = re.compile(r"[^-\s~^:?*\[\\\x00-\x20\x7f][^\s~^:?*\[\\\x00-\x20\x7f]*")


@again_on_conflict
def create_project(
    principal: Principal,
    name: str,
    *,
    description: str = "",
    repository: Repository | Mapping[str, Any] | None = None,
    world: World,
) -> Project:
    """A new project of the caller's organisation, owned by the caller. Raises `Invalid`, also for a name that is taken."""
    name = _checked_name(name)
    organisation_id = principal.organisation_id
    _refuse_taken(organisation_id, name, world)
    now = world.now()
    project = Project(
        id=world.new_id(),
        organisation_id=organisation_id,
        name=name,
        owner_id=principal.user_id,
        owner_name=principal.username,
        ctime=now,
        mtime=now,
        description=bounds.text("description", description, most=bounds.DESCRIPTION),
        repository=_checked_repository(repository),
    )
    world.metadata.transact(
        [
            new(keys.project(project.id), project),
            new(keys.project_in(organisation_id, project.id), {"project_id": project.id}),
            new(keys.project_name(organisation_id, name), {"project_id": project.id}),
            record(world, organisation_id, principal.username, "project.create", project.id, name=name),
        ]
    )
    return project


def get_project(principal: Principal, project_id: str, *, world: World) -> Project:
    """The project, if the caller may read it. Raises `NotFound`."""
    return need_project(principal, project_id, world=world).value


def list_projects(principal: Principal, *, world: World) -> list[Project]:
    """Every project that the caller may read, oldest first."""
    return readable_projects(principal, world=world)


@again_on_conflict
def update_project(principal: Principal, project_id: str, changes: Mapping[str, Any], *, world: World) -> Project:
    """Change name, description, yaml_path, repository, default_environment, default_store or tags; None clears one.

    Changing nothing is no error. Raises `NotFound`, and `Invalid` for the first change that is not right.
    """
    stored = need_project(principal, project_id, world=world)
    old = stored.value
    values = {name: _checked(principal, name, value, world) for name, value in changes.items()}
    changed = replace(old, **values)
    if changed == old:
        return old
    changed = replace(changed, mtime=world.now())
    writes: list[Write] = [stored.becomes(changed)]
    if changed.name.casefold() != old.name.casefold():
        _refuse_taken(old.organisation_id, changed.name, world)
        # The old name is this project's for as long as the project's own version holds.
        writes.append(Delete(keys.project_name(old.organisation_id, old.name), ANY))
        writes.append(new(keys.project_name(old.organisation_id, changed.name), {"project_id": old.id}))
    trace = record(world, old.organisation_id, principal.username, "project.update", old.id, fields=sorted(changes))
    world.metadata.transact([*writes, trace])
    return changed


@again_on_conflict
def delete_project(principal: Principal, project_id: str, *, world: World) -> None:
    """Hide the project for ever, free its name and forget its secrets; executions and data stay readable by id.

    Raises `Forbidden` unless its owner or an admin calls, `Invalid` while executions of it have not ended, `NotFound`.
    """
    stored = need_project(principal, project_id, world=world)
    project = stored.value
    if not principal.admin and principal.user_id != project.owner_id:
        raise Forbidden(f"Only {project.owner_name} or an administrator may delete project {project.name}.")
    if world.metadata.query(keys.live_in_project(project_id, 0).partition, limit=1).records:
        raise Invalid.because("Some of its executions have not ended: stop them first, then delete the project.")
    world.metadata.transact(
        [
            stored.becomes(replace(project, deleted=True, mtime=world.now())),
            Delete(keys.project_in(project.organisation_id, project.id), ANY),
            Delete(keys.project_name(project.organisation_id, project.name), ANY),
            record(world, project.organisation_id, principal.username, "project.delete", project.id, name=project.name),
        ]
    )
    for variable in project.environment_variables.values():
        if variable.secret:
            world.secrets.delete(variable.secret_name)


@again_on_conflict
def set_variable(
    principal: Principal, project_id: str, name: str, value: str, secret: bool, *, world: World
) -> Project:
    """Give later executions an environment variable. A secret's value goes to the secrets only. Repeatable.

    Raises `NotFound`, and `Invalid` for an odd name, a value over 32 KiB, or more variables than a project can keep.
    """
    stored = need_project(principal, project_id, world=world)
    if not _VARIABLE.fullmatch(name):
        raise Invalid({"name": ["Letters, digits, _ and - are accepted, at most 200; the first a letter or _."]})
    value = bounds.text("value", value, most=MAX_VALUE_BYTES)
    if len(value.encode()) > MAX_VALUE_BYTES:
        raise Invalid({"value": [f"At most {MAX_VALUE_BYTES} bytes are accepted: put larger things into an input."]})
    known = stored.value.environment_variables
    secret_name = f"project/{project_id}/{name}"
    variable = Variable(None, True, secret_name) if secret else Variable(value)
    variables = {**known, name: variable}
    _refuse_too_many(variables)
    # The secret changes before the row: a row that is committed never lacks its value, whoever else writes meanwhile.
    if secret:
        world.secrets.put(secret_name, value)
    elif name in known and known[name].secret:
        world.secrets.delete(secret_name)
    project = replace(stored.value, environment_variables=variables, mtime=world.now())
    trace = record(
        world, project.organisation_id, principal.username, "project.set_variable", project.id, name=name, secret=secret
    )
    world.metadata.transact([stored.becomes(project), trace])
    return project


@again_on_conflict
def delete_variable(principal: Principal, project_id: str, name: str, *, world: World) -> Project:
    """Take a variable from later executions, and its secret from everywhere. Deleting what is not there is no error."""
    stored = need_project(principal, project_id, world=world)
    variables = dict(stored.value.environment_variables)
    variable = variables.pop(name, None)
    if not variable:
        return stored.value
    if variable.secret:
        world.secrets.delete(variable.secret_name)
    project = replace(stored.value, environment_variables=variables, mtime=world.now())
    trace = record(world, project.organisation_id, principal.username, "project.delete_variable", project.id, name=name)
    world.metadata.transact([stored.becomes(project), trace])
    return project


def execution_summary(project_id: str, *, world: World) -> dict[str, int]:
    """How many executions the project ever had (`count`), deleted ones included, and of each status (`queued_count`...).

    What has ended stays counted in a row of its own, so that a reading walks only what is newer. For callers who have proven
    their right to the project.
    """
    saved = world.metadata.get(keys.execution_summary(project_id))
    through = int(saved.value["through"]) if saved else 0
    counts = Counter({str(k): int(v) for k, v in saved.value["counts"].items()} if saved else {})
    newer = _executions_after(project_id, through, world)
    ended = Counter(counts)
    ended_through = through
    for execution in newer:
        if not execution.status.terminal:
            break
        ended[execution.status.value] += 1
        ended_through = execution.counter
    counts.update(execution.status.value for execution in newer)
    if ended_through - through >= SUMMARY_STEP:
        value = {"through": ended_through, "counts": dict(ended)}
        with contextlib.suppress(Conflict, Throttled, Unavailable):
            key = keys.execution_summary(project_id)
            world.metadata.transact([Put(key, value, saved.version if saved else ABSENT)])
    return {"count": counts.total(), **{f"{status}_count": counts[status.value] for status in Status}}


def _executions_after(project_id: str, through: int, world: World) -> list[Execution]:
    after = keys.execution_by_counter(project_id, through).sort
    ids: list[str] = []
    cursor = None
    while True:
        page = world.metadata.query(keys.executions(project_id), after=after, cursor=cursor)
        ids.extend(str(row.value["execution_id"]) for row in page.records)
        cursor = page.cursor
        if cursor is None:
            break
    return [e.value for e in find_many(world.metadata, Execution, [keys.execution(i) for i in ids])]


def _checked_name(name: object) -> str:
    checked = bounds.line("name", name, most=MAX_NAME, least=1).strip()
    if not _NAME.fullmatch(checked):
        raise Invalid({"name": ["Letters, digits, spaces and . _ - are accepted; the first a letter or digit."]})
    return checked


def _refuse_taken(organisation_id: str, name: str, world: World) -> None:
    if world.metadata.get(keys.project_name(organisation_id, name)):
        raise Invalid({"name": [("A project with this name exists already.", "unique")]})


def _checked(principal: Principal, name: str, value: Any, world: World) -> Any:
    if name == "name":
        return _checked_name(value)
    if name == "description":
        return bounds.text(name, value or "", most=bounds.DESCRIPTION)
    if name == "yaml_path":
        return bounds.relative_path(name, value)
    if name == "repository":
        return _checked_repository(value)
    if name == "default_environment":
        return _environment_id(principal, value, world) if value else None
    if name == "default_store":
        return _store_name(value, world) if value else None
    if name == "tags":
        return bounds.tags(name, value or ())
    raise Invalid({str(name)[:100]: ["This field does not exist or cannot be changed."]})


def _checked_repository(given: Repository | Mapping[str, Any] | None) -> Repository | None:
    if given is None:
        return None
    if isinstance(given, Mapping):
        given = Repository(given.get("url", ""), given.get("ref") or "main")
    url = bounds.line("repository", given.url, most=bounds.URL)
    if not url:
        return None
    ref = bounds.line("repository", given.ref, most=MAX_REF, least=1)
    if not _REF.fullmatch(ref) or ".." in ref:
        raise Invalid({"repository": [f'"{ref}" cannot be a branch, tag or commit.']})
    if any(c.isspace() for c in url) or _password_in(url):
        raise Invalid({"repository": ["The URL may hold neither spaces nor a password: everybody here would see it."]})
    return Repository(url, ref)


def _password_in(url: str) -> bool:
    try:
        return urlsplit(url).password is not None
    except ValueError:
        raise Invalid({"repository": ["This is no URL."]}) from None


def _environment_id(principal: Principal, wanted: object, world: World) -> str:
    text = bounds.line("default_environment", wanted, most=bounds.NAME)
    try:
        return resolve_environment(principal, text, project=None, step_environment=None, world=world).id
    except Invalid as error:
        raise Invalid({"default_environment": error.fields["environment"]}) from error


def _store_name(wanted: object, world: World) -> str:
    name = bounds.line("default_store", wanted, most=bounds.NAME)
    try:
        world.stores.named(name)
    except NotFound as error:
        raise Invalid({"default_store": [str(error)]}) from error
    return name


def _refuse_too_many(variables: Mapping[str, Variable]) -> None:
    size = sum(len(name) + len((v.value or "").encode()) for name, v in variables.items())
    if len(variables) > MAX_VARIABLES or size > MAX_VARIABLES_BYTES:
        raise Invalid(
            {
                "non_field_errors": [
                    f"A project keeps at most {MAX_VARIABLES} variables of {MAX_VARIABLES_BYTES} bytes together: "
                    "delete some, or put large values into an input."
                ]
            }
        )
