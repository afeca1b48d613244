"""One stage of any recipe as a flow, for `nemotron RECIPE STAGE` where a Prefect server is configured."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from nemo_runspec.errors import StageCancelled
from nemotron.flows.cancellation import cancel_jobs
from nemotron.flows.chain import Pipeline
from nemotron.flows.pipelines import new_pipeline
from nemotron.flows.runs import RunRequest
from nemotron.flows.ui_artifacts import shown
from nemotron.tasks.stage_tasks import runner, single_stage


def run_name() -> str:
    """What runs, where, and the run's id: `<recipe>-<stage>-<config>-<profile>-<run id>`."""
    of = runtime.flow_run.parameters
    parts = [of["recipe"].replace("/", "-"), Path(of["config"]).stem, of.get("profile"), of["run_id"]]
    return "-".join(part for part in parts if part)


@flow(name="stage", flow_run_name=run_name, validate_parameters=False, on_cancellation=[cancel_jobs])
def stage(
    recipe: str,
    script: str,
    config: str,
    run_id: str,
    stages: tuple[str, ...] = (),
    overrides: tuple[str, ...] = (),
    passthrough: tuple[str, ...] = (),
    profile: str | None = None,
    refresh: bool = False,
    show_logs: bool = False,
    detached: bool = False,
    directory: str = "",
    project_dir: Path | None = None,
) -> Pipeline | State[Pipeline]:
    """Run the script; if its artifact is there it is reused, an interrupted one continues from its checkpoint."""
    request = RunRequest(
        recipe=recipe,
        script=script,
        config=config,
        run_id=run_id,
        stages=stages,
        overrides=tuple(overrides),
        passthrough=tuple(passthrough),
        profile=profile,
        refresh=refresh,
        show_logs=show_logs,
        detached=detached,
        directory=directory or str(Path.cwd()),
    )
    pipeline = new_pipeline(request, project_dir=Path(project_dir) if project_dir else None)
    try:
        pipeline.run(request.stage_name(), shown(runner(single_stage)))
    except StageCancelled as cancelled:
        return Cancelled(message=str(cancelled))  # what is raised would be a failure
    return pipeline
