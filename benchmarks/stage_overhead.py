"""What `run_stage` adds to a stage: planning, verifying, starting a process, collecting; without Prefect.

    python benchmarks/chain.py --only overhead

Each data prep and a short pretraining of the tiny config run through `run_stage` and as the bare script with the same
train.yaml and environment, in turns; the difference of the medians is reported. The first turn, which brings the files
into memory, does not count.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stderr
from pathlib import Path
from statistics import median

from rich.table import Table

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.config import extract_train_config, generate_job_dir, save_configs
from nemotron.flows.nano3_stages import RECIPE_DIR, SCRIPTS
from nemotron.tasks.plan import plan_stage
from nemotron.tasks.stage import run_stage, script_environment
from nemotron.tasks.stage_options import Stage, StageOptions

STAGES = {
    "data_prep_pretrain": (),
    "data_prep_sft": (),
    "data_prep_rl": (),
    "pretrain": ("train.train_iters=10", "train.eval_iters=1"),
}
ROUNDS = 3


def add_overhead(folder: Path, table: Table) -> None:
    """Add a row for each stage, measured in the project directory `folder`."""
    inputs: dict[str, ArtifactRef] = {}
    for name, overrides in STAGES.items():
        stage = Stage(name=name, script=RECIPE_DIR / SCRIPTS[name])
        through, alone = [], []
        for number in range(ROUNDS + 1):
            for seconds, run in ((through, time_stage), (alone, time_script)):
                options = StageOptions(
                    config="tiny",
                    overrides=overrides,
                    refresh=True,
                    run_id=f"{run.__name__}-{number}",
                    project_dir=folder,
                )
                seconds.append(run(stage, options, inputs))
        added = median(through[1:]) - median(alone[1:])
        table.add_row(f"run_stage, {name}", f"{added:+.2f} s to {median(alone[1:]):.2f} s", "≤ 2 s")
        if not inputs:
            text = ArtifactStore(options.store_root).resolve("nano3-pretrain-data:latest")
            inputs = {"tokenizer": text, "data": text}


def time_stage(stage: Stage, options: StageOptions, inputs: Mapping[str, ArtifactRef]) -> float:
    """Seconds that `run_stage` takes."""
    started = time.perf_counter()
    with redirect_stderr(io.StringIO()):  # its progress
        run_stage(stage, options, inputs)
    return time.perf_counter() - started


def time_script(stage: Stage, options: StageOptions, inputs: Mapping[str, ArtifactRef]) -> float:
    """Seconds that the script takes when all that `run_stage` prepares is there."""
    plan = plan_stage(stage, options, inputs, ArtifactStore(options.store_root))
    folder = generate_job_dir(stage.name, options.project_dir)
    _, config = save_configs(plan.job_config, extract_train_config(plan.job_config), folder)
    env = {**os.environ, "OMP_NUM_THREADS": "1", **script_environment(plan, options)}
    command = [sys.executable, str(stage.script), "--config", str(config)]
    started = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started
