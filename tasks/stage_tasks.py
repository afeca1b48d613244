"""The Prefect tasks: one for each kind of stage, each a thin skin over `run_stage`.

Call them directly, never with `.submit()`: signals and cancels do not reach submitted tasks. They bear no tags: for
each tag Prefect asks the server for a concurrency slot, which a busy SQLite answers by 503; the client then waits 2 s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prefect import task
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Cancelled, Completed

from nemo_runspec.artifacts import ArtifactRef
from nemo_runspec.errors import RunspecError, StageCancelled, StageFailed
from nemotron.tasks.flow_cancellation import flow_cancellation
from nemotron.tasks.flow_log import logged
from nemotron.tasks.interrupts import Interrupts
from nemotron.tasks.stage import StageResult, StageRunner, run_stage
from nemotron.tasks.stage_options import Stage, StageOptions

StageTask = Callable[[Stage, StageOptions, Mapping[str, ArtifactRef]], StageResult | State[StageResult]]


async def is_worth_a_retry(_task: object, _run: TaskRun, state: State[Any]) -> bool:
    """A process that was killed or crashed is run again, from its last checkpoint; a refusal is final."""
    try:
        await state.aresult(raise_on_failure=True)
    except StageFailed as error:
        return error.may_retry
    except RunspecError:
        return False
    except Exception:
        return True
    return False


_COMMON: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": [5, 30],
    "retry_condition_fn": is_worth_a_retry,
    "persist_result": True,
    "result_serializer": "json",
    "task_run_name": "{stage.name}",
}


def runner(stage_task: StageTask) -> StageRunner:
    """The task as a flow calls it: raises StageCancelled where the task returned the state Cancelled."""

    def run(stage: Stage, options: StageOptions, inputs: Mapping[str, ArtifactRef]) -> StageResult:
        result = stage_task(stage, options, inputs)
        if not isinstance(result, State):
            return result
        if result.is_completed():  # Prefect 3.8.8 hands on a state that a task returns
            return result.result()
        raise StageCancelled(result.message or f"{stage.name}: cancelled")

    return run


def run_cancellable(
    stage: Stage, options: StageOptions, inputs: Mapping[str, ArtifactRef]
) -> StageResult | State[StageResult]:
    """Run the stage; a cancelled one returns the state Cancelled, because Prefect retries what raises.

    One that was made before returns the state Reused.
    """
    interrupts = Interrupts(is_cancelled=flow_cancellation())
    try:
        result = logged(stage.name, lambda: run_stage(stage, options, inputs, interrupts))
    except StageCancelled as error:
        return Cancelled(message=str(error))
    if not result.reused:
        return result
    return Completed(name="Reused", message=f"{result.ref}, made by {result.made_by}", data=result)


@task(name="stage", **_COMMON)
def single_stage(
    stage: Stage, options: StageOptions, inputs: Mapping[str, ArtifactRef]
) -> StageResult | State[StageResult]:
    """Run a stage that is run alone."""
    return run_cancellable(stage, options, inputs)


@task(name="data-prep", **_COMMON)
def data_prep(
    stage: Stage, options: StageOptions, inputs: Mapping[str, ArtifactRef]
) -> StageResult | State[StageResult]:
    """Turn text into a data artifact."""
    return run_cancellable(stage, options, inputs)


@task(name="train", **_COMMON)
def train(stage: Stage, options: StageOptions, inputs: Mapping[str, ArtifactRef]) -> StageResult | State[StageResult]:
    """Pretrain or fine-tune a model."""
    return run_cancellable(stage, options, inputs)


@task(name="align", **_COMMON)
def align(stage: Stage, options: StageOptions, inputs: Mapping[str, ArtifactRef]) -> StageResult | State[StageResult]:
    """Align a model by reinforcement learning."""
    return run_cancellable(stage, options, inputs)
