"""The life of one stage, as named steps in order: plan → reuse → run → collect.

Knows no Prefect: flows call it directly (`--plain`) or through the tasks in `stage_tasks.py`. Everything that can be
refused is refused while planning, before any process starts.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

import nemo_runspec
from nemo_runspec import fingerprint as fp
from nemo_runspec.artifacts import ArtifactRef, LocalStore
from nemo_runspec.cli_context import GlobalContext
from nemo_runspec.config import (
    build_job_config,
    extract_train_config,
    generate_job_dir,
    parse_config,
    save_configs,
)
from nemo_runspec.errors import ConfigError, DataError, StageFailed
from nemo_runspec.execution import build_env_vars
from nemo_runspec.jobs import local
from nemo_runspec.profiles import Profile, check_supported, profile_config, profile_table
from nemo_runspec.settings import load_settings
from nemo_runspec.slurm.job_script import check_path
from nemo_runspec.slurm.ledger import Verdict
from nemo_runspec.slurm.spec import JobSpec
from nemotron.blocks.profile_lookup import find_profile
from nemotron.tasks.interrupts import ALONE, Interrupts
from nemotron.tasks.job_request import build_spec, effective_profile
from nemotron.tasks.requirements import check_requirements
from nemotron.tasks.run_local import run_in_process, run_process
from nemotron.tasks.run_slurm import SlurmRun, connect


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A named step of a recipe and the script that does it."""

    name: str
    script: Path


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """How to run a stage; the same for all stages of a pipeline but for `overrides`."""

    config: str = "default"
    overrides: tuple[str, ...] = ()
    profile: str | None = None
    refresh: bool = False
    plain: bool = False
    detached: bool = False
    show_logs: bool = False
    run_id: str
    project_dir: Path = field(default_factory=Path.cwd)

    @property
    def home(self) -> Path:
        """Where this project's artifacts, work directories, jobs and reports lie."""
        return self.project_dir / ".nemotron"

    @property
    def store_root(self) -> Path:
        """The artifact store: `$NEMOTRON_STORE`, else under the project's `.nemotron`."""
        return load_settings().store or self.home / "artifacts"

    @property
    def render_cache(self) -> Path:
        """Where rendered batch scripts are kept."""
        return self.home / "rendered"

    def work_root(self, profile: Profile) -> Path:
        """Where work directories lie: on Slurm under the profile's remote_job_dir, if it has one."""
        if profile.executor == "slurm" and profile.remote_job_dir:
            return Path(profile.remote_job_dir) / "work"
        return self.home / "work"


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """All that is decided before a stage starts."""

    stage: Stage
    runspec: nemo_runspec.Runspec
    job_config: DictConfig
    profile: Profile
    inputs: Mapping[str, ArtifactRef]
    fingerprint: str
    work_dir: Path


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


def plan_stage(stage: Stage, options: StageOptions, inputs: Mapping[str, ArtifactRef], store: LocalStore) -> StagePlan:
    """Merge the config, pin and verify the inputs, check what the stage needs, compute its fingerprint."""
    runspec = nemo_runspec.parse(stage.script)
    job_config = merge_config(stage, options, runspec)
    pinned = pin_inputs(stage, job_config, runspec, inputs, store)
    profile = effective_profile(job_config)
    check_machine(stage, job_config, profile)
    check_complete(stage, job_config)
    digest = fp.compute_fingerprint(
        plain_container(job_config),
        code=fp.digest_code(fp.recipe_code(stage.script), root=stage.script.parent.parent),
        inputs={slot: ref.digest for slot, ref in pinned.items()},
        sources={key: fp.digest_file(path) for key, path in find_sources(stage, job_config, runspec).items()},
        image=runspec.image,
    )
    suffix = f"-{options.run_id}" if options.refresh else ""
    return StagePlan(
        stage=stage,
        runspec=runspec,
        job_config=job_config,
        profile=profile,
        inputs=pinned,
        fingerprint=digest,
        work_dir=options.work_root(profile) / f"{stage.name}-{digest[:16]}{suffix}",
    )


def check_machine(stage: Stage, job_config: DictConfig, profile: Profile) -> None:
    """Refuse an executor that we do not run, and what the stage needs and this machine lacks if it is to run here."""
    check_supported(profile, job_config.run.profile)
    if profile.executor == "local":
        check_requirements(stage.name, job_config)


def check_stage(stage: Stage, options: StageOptions, *, given: Collection[str]) -> tuple[Profile, JobSpec] | None:
    """Refuse what `plan_stage` would refuse; `given` are the input slots that the flow fills.

    Returns what the stage will ask of Slurm, and how; None if it is not to run there.
    """
    runspec = nemo_runspec.parse(stage.script)
    job_config = merge_config(stage, options, runspec)
    profile = effective_profile(job_config)
    check_machine(stage, job_config, profile)
    check_complete(stage, job_config)
    find_sources(stage, job_config, runspec)
    extract_train_config(job_config, for_remote=False)
    store = LocalStore(options.store_root)
    for slot, type_name in runspec.artifacts.inputs.items():
        if slot not in given or is_overridden(slot, job_config):
            resolve_slot(stage, slot, type_name, job_config, store)
    if profile.executor != "slurm":
        return None
    check_path(options.work_root(profile).absolute())
    return profile, build_spec(stage, runspec, profile, options)


def merge_config(stage: Stage, options: StageOptions, runspec: nemo_runspec.Runspec) -> DictConfig:
    """The job config: the named YAML, the profile, the overrides, provenance."""
    context = GlobalContext(config=options.config, run=options.profile, dotlist=list(options.overrides))
    config = parse_config(context, runspec.config_dir, runspec.config.default)
    profile = (
        profile_for(runspec, profile_of_run(options.profile, options.run_id, Path.cwd())) if options.profile else None
    )
    argv = ["nemotron", *stage.name.split("_"), "-c", options.config, *options.overrides]
    return build_job_config(config, context, runspec.name, str(stage.script), argv, env_profile=profile)


@lru_cache(maxsize=8)
def profile_of_run(name: str, run_id: str, cwd: Path) -> Profile:  # noqa: ARG001
    """The profile, looked up once a pipeline run: all its stages get the same, and a server is asked once."""
    return find_profile(name)


def profile_for(runspec: nemo_runspec.Runspec, profile: Profile) -> DictConfig:
    """The profile as the script takes it: one that needs no GPU gets neither the profile's GPUs nor its nodes."""
    config = profile_config(profile)
    if runspec.resources.gpus_per_node == 0:
        config = DictConfig(
            {key: value for key, value in config.items_ex(resolve=False) if key not in _TRAINING_RESOURCES}
        )
    return config


_TRAINING_RESOURCES = frozenset({"nodes", "gpus_per_node", "ntasks_per_node", "nproc_per_node"})


def pin_inputs(
    stage: Stage,
    job_config: DictConfig,
    runspec: nemo_runspec.Runspec,
    inputs: Mapping[str, ArtifactRef],
    store: LocalStore,
) -> dict[str, ArtifactRef]:
    """Resolve each declared slot to an exact, verified version and write it into `run.<slot>`.

    A reference given as an override wins over what the flow passes.
    """
    pinned: dict[str, ArtifactRef] = {}
    for slot, type_name in runspec.artifacts.inputs.items():
        if slot in inputs and not is_overridden(slot, job_config):
            ref = inputs[slot]
        else:
            ref = resolve_slot(stage, slot, type_name, job_config, store)
        store.verify(ref)
        OmegaConf.update(job_config, f"run.{slot}", f"{ref.name}:{ref.version}", force_add=True)
        pinned[slot] = ref
    return pinned


def check_complete(stage: Stage, job_config: DictConfig) -> None:
    """Raise ConfigError for the first key that the config leaves to the user (`???`) and nobody set."""
    for key in sorted(OmegaConf.missing_keys(job_config)):
        raise ConfigError(
            f"{stage.name}: {key} is not set (??? in config {job_config.run.cli.config!r}); "
            f"give {stage.name}.{key}=VALUE"
        )


def is_overridden(slot: str, job_config: DictConfig) -> bool:
    """Whether the command line names the artifact of this slot."""
    return f"run.{slot}" in {item.partition("=")[0].lstrip("+") for item in job_config.run.cli.dotlist}


def resolve_slot(stage: Stage, slot: str, type_name: str, job_config: DictConfig, store: LocalStore) -> ArtifactRef:
    """The artifact that the config names for the slot."""
    requested = OmegaConf.select(job_config, f"run.{slot}")
    if not requested:
        raise ConfigError(f"{stage.name}: run.{slot} is not set; give run.{slot}=NAME:VERSION ({type_name})")
    return store.resolve(str(requested), expected_type=type_name)


def find_sources(stage: Stage, job_config: DictConfig, runspec: nemo_runspec.Runspec) -> dict[str, Path]:
    """Each input file that the config names, by its place there."""
    found: dict[str, Path] = {}
    for key in runspec.artifacts.sources:
        for position, source in enumerate(OmegaConf.select(job_config, key) or []):
            path = Path(source["path"] if isinstance(source, DictConfig) else source)
            if not path.is_file():
                raise DataError(
                    f"{stage.name}: {key}.{position}.path: {path} is not a file (from config "
                    f"{job_config.run.cli.config!r}); give a UTF-8 text file with {key}.{position}.path=FILE"
                )
            found[f"{key}.{position}"] = path
    return found


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


def output_name(runspec: nemo_runspec.Runspec) -> str:
    """The name under which the stage publishes."""
    if runspec.artifacts.output_name is None:
        raise ConfigError(f"{runspec.script_path}: [tool.runspec.artifacts] declares no output = {{ name, type }}")
    return runspec.artifacts.output_name


def plain_container(config: DictConfig) -> dict[str, Any]:
    """The config as plain data, interpolations left as text."""
    container = OmegaConf.to_container(config, resolve=False)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}
