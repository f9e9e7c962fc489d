"""Queue a notebook server: a run of the image's own Jupyter, without a commit."""

from __future__ import annotations

from collections.abc import Mapping

from lamplighter.domain.executions import Execution
from lamplighter.domain.projects import Commit, Principal
from lamplighter.records import again_on_conflict
from lamplighter.usecases.access import need_project
from lamplighter.usecases.check_order import SubmitExecution
from lamplighter.usecases.submit_execution import queue_plan
from lamplighter.world import World

STEP = "notebook"
COMMIT = "notebook"


@again_on_conflict
def submit_notebook(
    principal: Principal,
    project_id: str,
    *,
    environment: str | None,
    image: str,
    environment_variables: Mapping[str, str],
    world: World,
) -> Execution:
    """The queued execution. Raises `Invalid`, `NotFound`; repeating makes another one."""
    project = need_project(principal, project_id, world=world)
    step = {
        "name": STEP,
        "image": image,
        "command": "jupyter lab --no-browser --ip=0.0.0.0 --notebook-dir=/valohai/repository",
        "no-output-timeout": 604800,
    }
    order = SubmitExecution(
        project_id=project_id,
        commit=COMMIT,
        step=STEP,
        environment=environment,
        image=image,
        environment_variables=environment_variables,
        notebook=True,
    )
    plan = world.blueprints.plan(
        [{"step": step}],
        STEP,
        parameters={},
        inputs={},
        image=image,
        environment_variables=environment_variables,
    )
    commit = Commit(
        identifier=COMMIT,
        project_id=project_id,
        organisation_id=project.value.organisation_id,
        adhoc=True,
        ref=COMMIT,
        commit_time=world.now(),
        ctime=world.now(),
        archive_key="",
        archive_sha256="",
        archive_size=0,
    )
    return queue_plan(principal, order, project, commit, plan, (None, ""), world)
