"""The life of one stage, as named steps in order: plan → reuse → run → collect → mirror.

Knows no Prefect: flows call it directly (`--plain`) or through the tasks in `stage_tasks.py`. Everything that can be
refused is refused while planning, before any process starts.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.config import extract_train_config, generate_job_dir, save_configs
from nemo_runspec.errors import StageFailed
from nemo_runspec.jobs import local
from nemo_runspec.slurm.ledger import Attempt, Verdict
from nemotron.tasks.interrupts import ALONE, Interrupts, or_when_exists
from nemotron.tasks.job_files import job_environment, script_environment
from nemotron.tasks.job_index import followers, remember_config, remember_stage
from nemotron.tasks.mirroring import mirror
from nemotron.tasks.plan import StagePlan, output_name, plan_stage
from nemotron.tasks.run_local import run_in_process, run_process
from nemotron.tasks.run_slurm import SlurmRun, connect
from nemotron.tasks.stage_options import Stage, StageOptions


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What a finished stage leaves; small and JSON-friendly, so that it can be a Prefect result.

    `ref` is None for a script that declares no output.
    """

    stage: str
    ref: ArtifactRef | None
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
    store = ArtifactStore(options.store_root)
    plan = plan_stage(stage, options, inputs, store)
    interrupts = or_when_exists(interrupts, options.cancel_path)
    remember_stage(options, stage.name, plan.work_dir)
    jobs: list[Verdict] = []
    with alone(plan) as lock_fd:
        ref = find_reusable(plan, options, store)
        reused = ref is not None
        if ref is None:
            jobs = execute(plan, options, store, interrupts, lock_fd)
            ref = collect(plan, options, store)
    mirror(plan, options, store, ref, interrupts)
    return StageResult(
        stage=stage.name,
        ref=ref,
        reused=reused,
        seconds=time.monotonic() - started,
        work_dir=str(plan.work_dir),
        made_by=store.record(ref).producer.run_id if ref else options.run_id,
        jobs=tuple(jobs),
    )


def alone(plan: StagePlan) -> contextlib.AbstractContextManager[int]:
    """No other run works on this stage within the block; on Slurm several may follow its one job together."""
    return local.locked(plan.work_dir) if plan.profile.executor == "local" else contextlib.nullcontext(-1)


def find_reusable(plan: StagePlan, options: StageOptions, store: ArtifactStore) -> ArtifactRef | None:
    """The artifact that this fingerprint made before, if any; not every byte of a large file is compared.

    Raises:
        ArtifactCorrupted: it is damaged.
    """
    ref = find_made(plan, options, store) if plan.runspec.artifacts.output_name else None
    if ref is not None:
        store.verify(ref, "sampled")
    return ref


def find_made(plan: StagePlan, options: StageOptions, store: ArtifactStore) -> ArtifactRef | None:
    """The newest artifact that this fingerprint made; with `refresh` only what this very run made, which is fresh."""
    run_id = options.run_id if options.refresh else None
    return store.find(output_name(plan.runspec), plan.fingerprint, run_id=run_id)


def execute(
    plan: StagePlan, options: StageOptions, store: ArtifactStore, interrupts: Interrupts, lock_fd: int
) -> list[Verdict]:
    """Run the script: on Slurm, in a process of its own, or in this one when `plain`; what became of its Slurm jobs."""
    env = script_environment(plan, options)
    if plan.profile.executor == "slurm":
        slurm = SlurmRun(
            plan=plan,
            options=options,
            env=job_environment(plan, options),
            interrupts=interrupts,
            host=connect(plan.profile),
            is_published=lambda attempt: is_published(plan, store, attempt, options),
        )
        return slurm.run()
    job_dir = generate_job_dir(plan.stage.name, options.home.parent)
    train_config = extract_train_config(plan.job_config, for_remote=False)
    job_path, train_path = save_configs(plan.job_config, train_config, job_dir)
    remember_config(plan.work_dir, job_path)
    if options.plain:
        run_in_process(plan, train_path, env)
    else:
        run_process(plan, train_path, env, lock_fd, options=options, is_cancelled=interrupts.is_cancelled)
    return []


def is_published(plan: StagePlan, store: ArtifactStore, attempt: Attempt, options: StageOptions) -> bool:
    """Whether nothing is left to do after a completed attempt; without an output, whether this run waited for it."""
    if plan.runspec.artifacts.output_name is None:
        return options.run_id in followers(attempt)
    return find_reusable(plan, options, store) is not None


def collect(plan: StagePlan, options: StageOptions, store: ArtifactStore) -> ArtifactRef | None:
    """The artifact that the script published, None if it declares none."""
    if plan.runspec.artifacts.output_name is None:
        return None
    ref = find_made(plan, options, store)
    if ref is None:
        raise StageFailed(
            f"{plan.stage.name}: the script ended well but published no {output_name(plan.runspec)!r}; "
            f"see {plan.work_dir / 'log.txt'}"
        )
    return ref
