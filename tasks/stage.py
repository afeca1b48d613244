"""The life of one stage, as named steps in order: plan → reuse → run → collect.

Knows no Prefect: flows call it directly (`--plain`) or through the tasks in `stage_tasks.py`. Everything that can be
refused is refused while planning, before any process starts.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nemo_runspec.artifacts import ArtifactRef, LocalStore
from nemo_runspec.config import extract_train_config, generate_job_dir, save_configs
from nemo_runspec.errors import StageFailed
from nemo_runspec.execution import build_env_vars
from nemo_runspec.jobs import local
from nemo_runspec.profiles import profile_table
from nemo_runspec.slurm.ledger import Verdict
from nemotron.tasks.interrupts import ALONE, Interrupts
from nemotron.tasks.plan import StagePlan, output_name, plan_stage
from nemotron.tasks.run_local import run_in_process, run_process
from nemotron.tasks.run_slurm import SlurmRun, connect
from nemotron.tasks.stage_options import Stage, StageOptions


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What a finished stage leaves; small and JSON-friendly, so that it can be a Prefect result."""

    stage: str
    ref: ArtifactRef
    reused: bool
    seconds: float
    work_dir: str
    made_by: str
    jobs: tuple[Verdict, ...] = ()


StageRunner = Callable[[Stage, StageOptions, Mapping[str, ArtifactRef]], StageResult]
"""`run_stage`, or a task around it."""


def run_stage(
    stage: Stage, options: StageOptions, inputs: Mapping[str, ArtifactRef], interrupts: Interrupts = ALONE
) -> StageResult:
    """Return the stage's artifact: the one already made by the same fingerprint, or a new one.

    Raises:
        RunspecError: the stage is refused (nothing was started), or `StageFailed` when its process ended badly.
    """
    started = time.monotonic()
    store = LocalStore(options.store_root)
    plan = plan_stage(stage, options, inputs, store)
    jobs: list[Verdict] = []
    with alone(plan) as lock_fd:
        ref = None if options.refresh else find_reusable(plan, store)
        reused = ref is not None
        if ref is None:
            jobs = execute(plan, options, store, interrupts, lock_fd)
            ref = collect(plan, store)
    return StageResult(
        stage=stage.name,
        ref=ref,
        reused=reused,
        seconds=time.monotonic() - started,
        work_dir=str(plan.work_dir),
        made_by=store.record(ref).producer.run_id,
        jobs=tuple(jobs),
    )


def alone(plan: StagePlan) -> contextlib.AbstractContextManager[int]:
    """No other run works on this stage within the block; on Slurm several may follow its one job together."""
    return local.locked(plan.work_dir) if plan.profile.executor == "local" else contextlib.nullcontext(-1)


def find_reusable(plan: StagePlan, store: LocalStore) -> ArtifactRef | None:
    """The intact artifact that this fingerprint made before, if any."""
    ref = store.find(output_name(plan.runspec), plan.fingerprint)
    if ref is not None:
        store.verify(ref)
    return ref


def execute(
    plan: StagePlan, options: StageOptions, store: LocalStore, interrupts: Interrupts, lock_fd: int
) -> list[Verdict]:
    """Run the script: on Slurm, in a process of its own, or in this one when `plain`; what became of its Slurm jobs."""
    env = script_environment(plan, options)
    if plan.profile.executor == "slurm":
        slurm = SlurmRun(
            plan=plan,
            options=options,
            env={"OMP_NUM_THREADS": "1", **build_env_vars(plan.job_config, profile_table(plan.profile)), **env},
            interrupts=interrupts,
            host=connect(plan.profile),
            is_published=lambda: find_reusable(plan, store) is not None,
        )
        return slurm.run()
    job_dir = generate_job_dir(plan.stage.name, options.home.parent)
    train_config = extract_train_config(plan.job_config, for_remote=False)
    _, train_path = save_configs(plan.job_config, train_config, job_dir)
    if options.plain:
        run_in_process(plan, train_path, env)
    else:
        run_process(plan, train_path, env, lock_fd, is_cancelled=interrupts.is_cancelled)
    return []


def script_environment(plan: StagePlan, options: StageOptions) -> dict[str, str]:
    """What the script learns from its environment; see `nemo_runspec.artifacts.tracking`."""
    return {
        "NEMO_RUN_DIR": str(plan.work_dir.absolute()),
        "NEMOTRON_STORE": str(options.store_root.absolute()),
        "NEMOTRON_RUN_ID": options.run_id,
        "NEMOTRON_STAGE": plan.stage.name,
        "NEMOTRON_FINGERPRINT": plan.fingerprint,
        "NEMOTRON_METRICS": str(plan.work_dir.absolute() / "metrics.jsonl"),
        "NEMOTRON_OUTPUT_NAME": output_name(plan.runspec),
        "NEMOTRON_INPUTS": json.dumps({slot: f"{ref.name}:{ref.version}" for slot, ref in plan.inputs.items()}),
    }


def collect(plan: StagePlan, store: LocalStore) -> ArtifactRef:
    """The artifact that the script published."""
    ref = store.find(output_name(plan.runspec), plan.fingerprint)
    if ref is None:
        raise StageFailed(
            f"{plan.stage.name}: the script ended well but published no {output_name(plan.runspec)!r}; "
            f"see {plan.work_dir / 'log.txt'}"
        )
    return ref
