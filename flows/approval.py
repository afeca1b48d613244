"""A person's word between two stages: the flow run is paused until somebody answers its form in the UI.

As Prefect's `pause_flow_run`, except that a server which is away is waited for, that a cancel is noticed also where no
worker passes it on, and that a yes counts for retries of the run, too.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, FlowRunInput, State, StateType
from prefect.context import FlowRunContext
from prefect.input import RunInput
from prefect.states import Paused
from pydantic import Field

from nemo_runspec.artifacts import ArtifactRef
from nemo_runspec.errors import StageCancelled, StageFailed
from nemotron.tasks.hasty_client import hasty_client
from nemotron.tasks.stage import StageResult, StageRunner
from nemotron.tasks.stage_options import Stage, StageOptions

ANSWER_WITHIN_S = 14 * 24 * 3600
"""Nobody's answer for two weeks fails the run; a retry of it asks again."""
LOOK_EVERY_S = 5
PARTS = ("schema", "description", "response")
MAX_INPUTS = 200  # Prefect 3.8.8: the most that one question for inputs gives
logger = logging.getLogger(__name__)
Result = TypeVar("Result")


class Approval(RunInput):
    """The form of a paused run."""

    go_on: bool = Field(default=True, description="Run the stage. Else the run is cancelled; what it made is kept")
    note: str = Field(default="", description="Why, for the record")


def approved(runner: StageRunner, *, before: Collection[str]) -> StageRunner:
    """The runner, which asks first where the stage is one of `before`; a yes counts for retries of the flow run."""

    def run(stage: Stage, options: StageOptions, inputs: Mapping[str, ArtifactRef]) -> StageResult:
        if stage.name in before:
            ask(stage.name, inputs)
        return runner(stage, options, inputs)

    return run


def ask(stage: str, inputs: Mapping[str, ArtifactRef]) -> None:
    """Wait for a yes, unless there is one already.

    Raises:
        StageCancelled: it is no, or the run is cancelled.
        StageFailed: nobody answered in time.
    """
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    run = context.flow_run
    if any(answer.go_on for answer in patiently(lambda client: read_answers(client, run, stage)).values()):
        return
    given = ", ".join(f"{slot} {ref}" for slot, ref in inputs.items()) or "nothing"
    key = f"{stage}-{run.run_count}"  # each attempt of the run has a form of its own
    patiently(lambda client: show_form(client, run, key, f"Run **{stage}** on {given}?"))
    logger.info("%s: waits for somebody's word", stage)
    answer = wait_for_answer(run, stage, key)
    note = f": {answer.note}" if answer.note else ""
    if not answer.go_on:
        raise StageCancelled(f"{stage}: not approved{note}")
    logger.info("%s: approved%s", stage, note)


def wait_for_answer(run: FlowRun, stage: str, key: str) -> Approval:
    """Return when somebody has resumed the run.

    Raises:
        StageCancelled, StageFailed: what else may have become of it.
    """
    while True:
        state = patiently(lambda client: client.read_flow_run(run.id).state)
        assert state is not None
        if state.type == StateType.RUNNING:
            return patiently(lambda client: take_answer(client, run, stage, key))
        if state.type in (StateType.CANCELLING, StateType.CANCELLED):
            raise StageCancelled(f"{stage}: cancelled before somebody approved it")
        if state.type != StateType.PAUSED:
            raise StageFailed(f"{stage}: nobody approved it; the run is {state.name}: {state.message}")
        time.sleep(LOOK_EVERY_S)


def show_form(client: SyncPrefectClient, run: FlowRun, key: str, question: str) -> None:
    """Save the form and pause the run; once more does no harm."""
    for part, value in (("schema", Approval.model_json_schema()), ("description", question)):
        try:
            client.create_flow_run_input(run.id, input_key(key, part), json.dumps(value))
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.CONFLICT:
                raise
    paused: State[None] = Paused(timeout_seconds=ANSWER_WITHIN_S, pause_key=f"approve-{key}")
    paused.state_details.run_input_keyset = {part: input_key(key, part) for part in PARTS}
    client.set_flow_run_state(run.id, paused)


def take_answer(client: SyncPrefectClient, run: FlowRun, stage: str, key: str) -> Approval:
    """What was answered; a run that was resumed without an answer, as by `prefect flow-run resume`, means yes."""
    answer = read_answers(client, run, stage).get(input_key(key, "response"))
    if answer is None:
        answer = Approval()
        client.create_flow_run_input(run.id, input_key(key, "response"), answer.model_dump_json())
    return answer


def read_answers(client: SyncPrefectClient, run: FlowRun, stage: str) -> dict[str, Approval]:
    """All that was answered about the stage in this run and its retries, by key."""
    found: list[FlowRunInput] = client.filter_flow_run_input(
        run.id, key_prefix=input_key(stage, ""), limit=MAX_INPUTS, exclude_keys=set()
    )
    return {item.key: Approval.load_from_flow_run_input(item) for item in found if item.key.endswith("-response")}


def input_key(key: str, part: str) -> str:
    """Where a part of the form is kept among the run's inputs; the server puts the answer there, too."""
    return f"paused-approve-{key}-{part}".replace("_", "-")  # the only character besides letters and digits


def patiently(action: Callable[[SyncPrefectClient], Result]) -> Result:
    """What the server answers, whenever it does; raises only what waiting does not help against."""
    told = False
    while True:
        try:
            with hasty_client() as client:
                return action(client)
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.is_client_error:
                raise
            if not told:
                logger.warning("Prefect does not answer: %s; asking until it does", error or type(error).__name__)
            told = True
        time.sleep(LOOK_EVERY_S)
