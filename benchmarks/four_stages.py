"""A pipeline of four Slurm jobs, one after the other; the flow that many_runs.py has many runs of."""

from pathlib import Path

from prefect import flow, runtime

from nemotron.flows.chain import Handle, Pipeline, check_all
from nemotron.flows.ui_artifacts import shown
from nemotron.tasks.stage import StageRunner, run_stage
from nemotron.tasks.stage_options import StageOptions
from nemotron.tasks.stage_tasks import runner, single_stage

STAGES = ("first", "second", "third", "fourth")


def run_chain(pipeline: Pipeline, run: StageRunner = run_stage) -> None:
    """Each stage takes what the one before it made."""
    made: dict[str, Handle] = {}
    for name in STAGES:
        made = {"data": pipeline.run(name, run, **made)}


@flow(name="four-stages", flow_run_name="{name}")
def four_stages(name: str, project_dir: Path, overrides: dict[str, list[str]]) -> None:  # noqa: ARG001
    """Run the chain in the project, on the profile `lab`."""
    pipeline = Pipeline(
        recipe_dir=project_dir,
        scripts={stage: f"{stage}/data_prep.py" for stage in STAGES},
        options=StageOptions(
            profile="lab", run_id=str(runtime.flow_run.id), project_dir=project_dir, directory=project_dir
        ),
        overrides={stage: tuple(items) for stage, items in overrides.items()},
    )
    check_all(pipeline, run_chain)
    run_chain(pipeline, shown(runner(single_stage)))
