"""nano3: data prep → pretrain → data prep → SFT → data prep → RL, as one flow.

`python flows/nano3.py --help` tells what can be chosen; `--plain` runs the same stages without Prefect.
"""

from __future__ import annotations

if __name__ == "__main__":  # before Prefect is imported: the command sets it up, or does without it
    from nemotron.flows.command import main

    raise SystemExit(main())

from pathlib import Path

from prefect import flow

from nemotron.flows.chain import Pipeline
from nemotron.flows.nano3_stages import new_pipeline, run_chain
from nemotron.tasks.stage_tasks import align, data_prep, train


@flow(name="nano3", flow_run_name="nano3-{config}-{run_id}", validate_parameters=False)
def nano3(
    config: str = "tiny",
    run_id: str = "manual",
    stages: tuple[str, ...] = (),
    overrides: tuple[str, ...] = (),
    profile: str | None = None,
    refresh: bool = False,
    project_dir: Path | None = None,
) -> Pipeline:
    """Run the chain; finished stages are reused, an interrupted one continues from its checkpoint."""
    pipeline = new_pipeline(
        config=config,
        run_id=run_id,
        stages=stages,
        overrides=overrides,
        profile=profile,
        refresh=refresh,
        project_dir=project_dir,
    )
    run_chain(pipeline, data_prep=data_prep, train=train, align=align)
    return pipeline
