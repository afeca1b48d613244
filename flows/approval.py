"""A person's word between two stages: the flow run is paused until somebody answers its form in the UI."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import Field

from nemo_runspec.artifacts import ArtifactRef
from nemo_runspec.errors import StageCancelled
from nemotron.tasks.stage import StageResult, StageRunner
from nemotron.tasks.stage_options import Stage, StageOptions

ANSWER_WITHIN_S = 14 * 24 * 3600
"""Nobody's answer for two weeks fails the run; a retry of it asks again."""
LOOK_EVERY_S = 5


class Approval(RunInput):
    """The form of a paused run."""

    go_on: bool = Field(default=True, description="Run the stage. Else the run is cancelled; what it made is kept")
    note: str = Field(default="", description="Why, for the record")


def approved(runner: StageRunner, *, before: Collection[str]) -> StageRunner:
    """The runner, which asks first where the stage is one of `before`; asked once a flow run, also if it is retried."""

    def run(stage: Stage, options: StageOptions, inputs: Mapping[str, ArtifactRef]) -> StageResult:
        if stage.name in before:
            ask(stage.name, inputs)
        return runner(stage, options, inputs)

    return run


def ask(stage: str, inputs: Mapping[str, ArtifactRef]) -> None:
    """Wait for the answer.

    Raises:
        StageCancelled: it is no.
    """
    given = ", ".join(f"{slot} {ref}" for slot, ref in inputs.items()) or "nothing"
    form = Approval.with_initial_data(description=f"Run **{stage}** on {given}?")
    answer = pause_flow_run(
        wait_for_input=form, timeout=ANSWER_WITHIN_S, poll_interval=LOOK_EVERY_S, key=f"approve-{stage}"
    )
    if not answer.go_on:
        raise StageCancelled(f"{stage}: not approved{f': {answer.note}' if answer.note else ''}")
