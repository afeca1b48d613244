"""Says of a project's tasks how they ended, where nobody else will.

Prefect 3.8.8 tells its server of tasks by events that nobody acknowledges. One that falls into an outage is lost, and a
process that is killed tells nothing: the task is shown as Running for ever, in a run that is over or has gone on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State, TaskRun

GRACE_S = 600.0
"""How long after it should have ended a task may still be heard of: its process tries for eight minutes."""
ANSWER_TIMEOUT_S = 15.0
_BEGINNING = datetime.min.replace(tzinfo=UTC)

logger = logging.getLogger(__name__)


def settle_tasks(project: Path, *, grace_s: float = GRACE_S) -> None:
    """Give those of the project's tasks that are shown as not ended, and cannot be, a last state.

    The project's are those of flow runs that name it as their `project_dir`. Raises whatever Prefect's client raises.
    """
    from httpx import HTTPStatusError
    from prefect.exceptions import ObjectNotFound

    from nemotron.tasks.hasty_client import hasty_client

    with hasty_client(timeout_s=ANSWER_TIMEOUT_S) as client:
        for run_id in sorted({task.flow_run_id for task in _open_tasks(client) if task.flow_run_id}):
            try:
                _settle_run(client, run_id, project, grace_s)
            except (ObjectNotFound, HTTPStatusError) as error:  # of this run; the others are seen to all the same
                logger.warning("tasks of flow run %s are left as they are: %s", run_id, error)


def _settle_run(client: SyncPrefectClient, run_id: UUID, project: Path, grace_s: float) -> None:
    from prefect.client.schemas import filters

    of_run = filters.FlowRunFilter(id=filters.FlowRunFilterId(any_=[run_id]))
    tasks = client.read_task_runs(flow_run_filter=of_run)
    run = client.read_flow_run(run_id)  # after its tasks: in a run that is over now, all of these are
    folder = run.parameters.get("project_dir")
    if not folder or os.path.realpath(folder) != os.path.realpath(project):
        return
    for task in tasks:
        state = last_state(task, run, tasks, now=datetime.now(UTC), grace_s=grace_s)
        if state is not None and is_open(client.read_task_run(task.id)):
            client.set_task_run_state(task.id, state, force=True)
            logger.info("%s of %s: %s, %s", task.name, run.name, state.name, state.message)


def last_state(
    task: TaskRun, run: FlowRun, tasks: Sequence[TaskRun], *, now: datetime, grace_s: float
) -> State[Any] | None:
    """What a task among those of its run is to be shown as; None if it is right as it is, or may still be heard of.

    A run's stages follow one another: what another one came after has ended.
    """
    from prefect.client.schemas.objects import State
    from prefect.states import Completed, Crashed

    if not is_open(task):
        return None
    since = now - timedelta(seconds=grace_s)
    later = [other for other in tasks if _began(task) < _began(other) <= since]
    if any(other.flow_run_run_count == task.flow_run_run_count for other in later):
        return Completed(message="the run went on after it; its end was not heard")
    if any(other.name == task.name for other in later):
        return Crashed(message="its process ended without a word; the run has started the stage again")
    if run.state is not None and run.state.is_final() and run.end_time is not None and run.end_time <= since:
        return State(type=run.state.type, message="as the run; how the task itself ended was not heard")
    return None


def is_open(task: TaskRun) -> bool:
    """Whether it is shown as not ended."""
    return task.state is not None and not task.state.is_final()


def _began(task: TaskRun) -> datetime:
    return task.start_time or task.expected_start_time or _BEGINNING


def _open_tasks(client: SyncPrefectClient) -> Iterator[TaskRun]:
    """Of whatever flow runs, in as many answers as it takes."""
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType

    types = [StateType.RUNNING, StateType.PENDING, StateType.SCHEDULED]
    state = filters.TaskRunFilterState(type=filters.TaskRunFilterStateType(any_=types))
    offset = 0
    while page := client.read_task_runs(task_run_filter=filters.TaskRunFilter(state=state), offset=offset):
        yield from page
        offset += len(page)
