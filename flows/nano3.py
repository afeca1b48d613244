"""nano3: data prep → pretrain → data prep → SFT → data prep → RL, as one flow.

`python flows/nano3.py --help` tells what can be chosen; `--plain` runs the same stages without Prefect.
"""

from __future__ import annotations

if __name__ == "__main__":  # before Prefect is imported: the command sets it up, or does without it
    from nemotron.flows.command import main

    raise SystemExit(main())

from pathlib import Path

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from nemo_runspec.errors import StageCancelled
from nemotron.flows.cancellation import cancel_jobs
from nemotron.flows.chain import Pipeline
from nemotron.flows.nano3_stages import new_pipeline, run_chain
from nemotron.tasks.stage_tasks import align, data_prep, runner, train


def run_name() -> str:
    """`nano3-<config>-<run id>`."""
    parameters = runtime.flow_run.parameters
    return f"nano3-{parameters['config']}-{parameters['run_id'] or runtime.flow_run.id[:8]}"


@flow(name="nano3", flow_run_name=run_name, validate_parameters=False, on_cancellation=[cancel_jobs])
def nano3(
    config: str = "tiny",
    run_id: str | None = None,
    stages: tuple[str, ...] = (),
    overrides: tuple[str, ...] = (),
    profile: str | None = None,
    refresh: bool = False,
    show_logs: bool = False,
    detached: bool = False,
    directory: str | None = None,
    project_dir: Path | None = None,
) -> Pipeline | State[Pipeline]:
    """Run the chain; finished stages are reused, an interrupted one continues from its checkpoint."""
    pipeline = new_pipeline(
        config=config,
        run_id=run_id or str(runtime.flow_run.id),
        stages=tuple(stages),  # a deployment's parameters come as JSON has them
        overrides=tuple(overrides),
        profile=profile,
        refresh=refresh,
        show_logs=show_logs,
        detached=detached,
        directory=directory,
        project_dir=Path(project_dir) if project_dir else None,
    )
    try:
        run_chain(pipeline, data_prep=runner(data_prep), train=runner(train), align=runner(align))
    except StageCancelled as cancelled:
        return Cancelled(message=str(cancelled))  # what is raised would be a failure
    return pipeline
