"""Says of a project's tasks how they ended, where nobody else will.

Prefect 3.8.8 tells its server of tasks by events that nobody acknowledges. One that falls into an outage is lost, and a
process that is killed tells nothing: the task is shown as Running for ever, in a run that is over or that has started
the same stage again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State, TaskRun

GRACE_S = 600.0
"""How long after a run's end its tasks may still be heard of: its client tries for eight minutes."""
ANSWER_TIMEOUT_S = 15.0
PAGE = 200  # as many as the server gives at once

logger = logging.getLogger(__name__)


def settle_tasks(project: Path, *, grace_s: float = GRACE_S) -> None:
    """Give those of the project's tasks that are shown as running, and cannot be, a last state.

    Raises whatever Prefect's client raises.
    """
    from nemotron.tasks.hasty_client import hasty_client

    with hasty_client(timeout_s=ANSWER_TIMEOUT_S) as client:
        run_ids = sorted({task.flow_run_id for task in _running_tasks(client) if task.flow_run_id})
        for run_id in run_ids:
            run = client.read_flow_run(run_id)
            if run.parameters.get("project_dir") != str(project):
                continue
            tasks = _tasks_of(client, run)
            for task in tasks:
                state = last_state(task, run, tasks, now=datetime.now(UTC), grace_s=grace_s)
                if state is not None:
                    client.set_task_run_state(task.id, state, force=True)
                    logger.info("%s of %s: %s, %s", task.name, run.name, state.name, state.message)


def last_state(
    task: TaskRun, run: FlowRun, tasks: Sequence[TaskRun], *, now: datetime, grace_s: float
) -> State[Any] | None:
    """What a task among those of its run is to be shown as; None if it is right as it is, or may still be heard of."""
    from prefect.client.schemas.objects import State
    from prefect.states import Crashed

    if task.state is None or not task.state.is_running() or task.start_time is None:
        return None
    later = (other for other in tasks if other.start_time and other.start_time > task.start_time)
    if any(other.name == task.name for other in later):
        return Crashed(message="its process ended without a word; the run has started the stage again")
    if run.state is None or not run.state.is_final() or run.end_time is None:
        return None
    if now - run.end_time < timedelta(seconds=grace_s):
        return None
    return State(type=run.state.type, message="as the run; how the task itself ended was not heard")


def _running_tasks(client: SyncPrefectClient) -> list[TaskRun]:
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType

    running = filters.TaskRunFilterState(type=filters.TaskRunFilterStateType(any_=[StateType.RUNNING]))
    found: list[TaskRun] = []
    while True:
        wanted = filters.TaskRunFilter(state=running)
        page = client.read_task_runs(task_run_filter=wanted, limit=PAGE, offset=len(found))
        found += page
        if len(page) < PAGE:
            return found


def _tasks_of(client: SyncPrefectClient, run: FlowRun) -> list[TaskRun]:
    from prefect.client.schemas import filters

    of_run = filters.FlowRunFilter(id=filters.FlowRunFilterId(any_=[run.id]))
    return client.read_task_runs(flow_run_filter=of_run, limit=PAGE)
