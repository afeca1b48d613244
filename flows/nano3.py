"""nano3: data prep → pretrain → data prep → SFT → data prep → RL, as one flow.

`python flows/nano3.py --help` tells what can be chosen; `--plain` runs the same stages without Prefect.
"""

# Annotations are no strings here: Prefect cannot resolve these where it loads the file by its path, as for `serve`.

if __name__ == "__main__":  # before Prefect is imported: the command sets it up, or does without it
    from nemotron.flows.command import main

    raise SystemExit(main())

from pathlib import Path

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from nemo_runspec.errors import StageCancelled
from nemotron.flows.approval import approved
from nemotron.flows.cancellation import cancel_jobs
from nemotron.flows.chain import Pipeline
from nemotron.flows.concurrency_slot import keep_slot
from nemotron.flows.nano3_stages import new_pipeline, run_chain
from nemotron.flows.parameters import ConfigName, StageName, StageParameters, chain_parameters, what_runs
from nemotron.flows.report import try_report
from nemotron.flows.ui_artifacts import show_pipeline, shown
from nemotron.tasks.stage_tasks import align, data_prep, runner, train

ALL = StageParameters()


def run_name() -> str:
    """What runs, where, and the run's id, as `nano3-tiny-sft+rl-my-cluster-1a2b3c4d`."""
    parameters = runtime.flow_run.parameters
    parts = ["nano3", *what_runs(parameters), parameters["profile"], parameters["run_id"] or runtime.flow_run.id[:8]]
    return "-".join(part for part in parts if part)


@flow(name="nano3", flow_run_name=run_name, on_running=[keep_slot], on_cancellation=[cancel_jobs])
def nano3(
    config: ConfigName = "tiny",
    profile: str | None = None,
    data_prep_pretrain: StageParameters = ALL,
    pretrain: StageParameters = ALL,
    data_prep_sft: StageParameters = ALL,
    sft: StageParameters = ALL,
    data_prep_rl: StageParameters = ALL,
    rl: StageParameters = ALL,
    approve_before: list[StageName] = [],  # noqa: B006
    refresh: bool = False,
    run_id: str | None = None,
    project_dir: Path | None = None,
    directory: str | None = None,
    show_logs: bool = False,
    detached: bool = False,
) -> Pipeline | State[Pipeline]:
    """Run the chain; finished stages are reused, an interrupted one continues from its checkpoint.

    Args:
        config: tiny takes minutes on a laptop, default is the real model.
        profile: Where the stages run, by its name; on the worker's machine without one.
        data_prep_pretrain: Text to tokens.
        pretrain: The base model.
        data_prep_sft: Conversations to packed tokens.
        sft: Supervised fine-tuning of the base model.
        data_prep_rl: Questions with answers that can be checked.
        rl: Reinforcement learning (GRPO) of the tuned model.
        approve_before: Stages before which the run waits for somebody's word.
        refresh: Run the stages even if their artifacts exist.
        run_id: Take up that run again; a new one without it.
        project_dir: The project on the worker, with env.toml and .nemotron; the worker's directory without one.
        directory: What relative paths in configs are relative to; the project without one.
        show_logs: Print what the stages print.
        detached: Started by a command that does not wait.
    """
    by_stage = {
        "data_prep_pretrain": data_prep_pretrain,
        "pretrain": pretrain,
        "data_prep_sft": data_prep_sft,
        "sft": sft,
        "data_prep_rl": data_prep_rl,
        "rl": rl,
    }
    pipeline = new_pipeline(
        config=config,
        run_id=run_id or str(runtime.flow_run.id),
        **chain_parameters(by_stage),
        profile=profile,
        refresh=refresh,
        show_logs=show_logs,
        detached=detached,
        directory=directory,
        project_dir=project_dir,
    )
    run = {task: approved(shown(runner(task)), before=approve_before) for task in (data_prep, train, align)}
    try:
        run_chain(pipeline, data_prep=run[data_prep], train=run[train], align=run[align])
    except StageCancelled as cancelled:
        return Cancelled(message=str(cancelled))  # what is raised would be a failure
    show_pipeline(pipeline, try_report(pipeline))
    return pipeline
