"""The stages of nano3 and what follows what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemotron.flows.chain import Pipeline, check_all, check_run_id, check_stages, split_overrides
from nemotron.tasks.stage import StageRunner, run_stage
from nemotron.tasks.stage_options import StageOptions

RECIPE_DIR = Path(__file__).resolve().parent.parent / "recipes" / "nano3"
SCRIPTS = {
    "data_prep_pretrain": "stage0_pretrain/data_prep.py",
    "pretrain": "stage0_pretrain/train.py",
    "data_prep_sft": "stage1_sft/data_prep.py",
    "sft": "stage1_sft/train.py",
    "data_prep_rl": "stage2_rl/data_prep.py",
    "rl": "stage2_rl/train.py",
}
STAGES = tuple(SCRIPTS)


def new_pipeline(**parameters: Any) -> Pipeline:
    """A nano3 pipeline as `build_pipeline` makes it; all that can be refused is refused here, before any stage starts.

    Raises:
        RunspecError: unknown stage, config, profile or key; something that a stage needs and this machine lacks.
    """
    pipeline = build_pipeline(**parameters)
    check_all(pipeline, run_chain)
    return pipeline


def build_pipeline(
    *,
    config: str,
    run_id: str,
    stages: tuple[str, ...] = (),
    overrides: tuple[str, ...] = (),
    configs: Mapping[str, str] | None = None,
    profile: str | None = None,
    refresh: bool = False,
    show_logs: bool = False,
    detached: bool = False,
    plain: bool = False,
    directory: str | None = None,
    project_dir: Path | None = None,
) -> Pipeline:
    """A nano3 pipeline, of which only the names are checked; `configs` are those of stages with one of their own.

    Relative paths of the configs are of `directory`, the project's without one.

    Raises:
        ConfigError: an unknown stage, or an override without one.
    """
    check_run_id(run_id)
    check_stages(stages, STAGES)
    options = StageOptions(
        config=config,
        run_id=run_id,
        profile=profile,
        refresh=refresh,
        show_logs=show_logs,
        detached=detached,
        plain=plain,
        project_dir=project_dir or Path.cwd(),
        directory=Path(directory or project_dir or Path.cwd()),
    )
    return Pipeline(
        recipe_dir=RECIPE_DIR,
        scripts=SCRIPTS,
        options=options,
        selected=stages,
        overrides=split_overrides(overrides, STAGES),
        configs=configs or {},
    )


def run_chain(
    pipeline: Pipeline,
    *,
    data_prep: StageRunner = run_stage,
    train: StageRunner = run_stage,
    align: StageRunner = run_stage,
) -> None:
    """Each line names a stage and the artifacts it gets."""
    run = pipeline.run
    text = run("data_prep_pretrain", data_prep)
    base = run("pretrain", train, data=text)
    chats = run("data_prep_sft", data_prep, tokenizer=text)
    tuned = run("sft", train, data=chats, model=base)
    questions = run("data_prep_rl", data_prep, tokenizer=text)
    run("rl", align, data=questions, model=tuned)
