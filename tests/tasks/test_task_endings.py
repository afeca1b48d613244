"""What a task is to be shown as whose end nobody told; `reaper` asks a real server for them."""

from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from prefect.states import AwaitingRetry, Completed, Running

from nemotron.tasks.task_endings import GRACE_S, last_state

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = FlowRun(flow_id="00000000-0000-0000-0000-000000000000", name="some", state=Running())


def minutes_ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def task(name: str, began: float, *, attempt: int = 1, state: State | None = None) -> TaskRun:
    """One that began so many minutes ago in that attempt of its run, and runs."""
    return TaskRun(
        name=name,
        task_key=name,
        dynamic_key=f"{name}-{began}",
        flow_run_run_count=attempt,
        start_time=minutes_ago(began),
        state=state or Running(),
    )


def shown(tasks: list[TaskRun], run: FlowRun = RUN) -> list[str | None]:
    """What each is to be shown as."""
    states = [last_state(each, run, tasks, now=NOW, grace_s=GRACE_S) for each in tasks]
    return [state.name if state else None for state in states]


def ended(kind: StateType, *, minutes: float) -> FlowRun:
    return RUN.model_copy(update={"state": State(type=kind), "end_time": minutes_ago(minutes)})


def test_a_task_that_runs_is_left_alone() -> None:
    assert shown([task("pretrain", 900, state=Completed()), task("sft", 600)]) == [None, None]


def test_the_run_went_on_after_it_so_it_completed() -> None:
    assert shown([task("pretrain", 900), task("sft", 600)]) == ["Completed", None]


def test_the_run_has_started_the_stage_again_so_it_crashed() -> None:
    killed = [task("pretrain", 900, state=Completed()), task("sft", 600)]
    again = [task("pretrain", 300, attempt=2, state=Completed()), task("sft", 290, attempt=2)]
    assert shown(killed + again) == [None, "Crashed", None, None]


def test_another_stage_of_a_retry_says_nothing_of_it() -> None:
    assert shown([task("sft", 600), task("pretrain", 300, attempt=2, state=Completed())]) == [None, None]


def test_it_may_still_be_heard_of() -> None:
    assert shown([task("pretrain", 900), task("sft", 9)]) == [None, None]
    assert shown([task("sft", 600), task("sft", 9, attempt=2)]) == [None, None]
    assert shown([task("sft", 600)], ended(StateType.COMPLETED, minutes=9)) == [None]


@pytest.mark.parametrize("kind", [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED])
def test_the_last_one_ended_as_the_run(kind: StateType) -> None:
    tasks = [task("pretrain", 900), task("sft", 600)]
    assert shown(tasks, ended(kind, minutes=11)) == ["Completed", kind.value.capitalize()]


def test_one_that_waited_for_its_retry_ended_too() -> None:
    waiting = task("sft", 600, state=AwaitingRetry())
    assert shown([waiting]) == [None]
    assert shown([waiting], ended(StateType.CRASHED, minutes=11)) == ["Crashed"]
