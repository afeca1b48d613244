"""All that is decided before a stage starts: its config, profile, pinned inputs and fingerprint.

What can be refused is refused here: nothing was started yet.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import nemo_runspec
from nemo_runspec import fingerprint as fp
from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.artifacts.slots import read_slot
from nemo_runspec.cli_context import GlobalContext
from nemo_runspec.config import build_job_config, extract_train_config, parse_config
from nemo_runspec.config.origins import leaves_of
from nemo_runspec.errors import ArtifactError, ConfigError, DataError, StoreError, did_you_mean
from nemo_runspec.mirror.target import WandbTarget
from nemo_runspec.packaging import PACKAGERS, recipe_root
from nemo_runspec.profiles import Profile, check_supported, profile_config
from nemo_runspec.slurm.job_script import check_path
from nemo_runspec.slurm.spec import JobSpec
from nemotron.blocks.profile_lookup import find_profile
from nemotron.blocks.store_settings import find_store_settings, project_env_file
from nemotron.tasks.code_snapshot import package_code
from nemotron.tasks.frozen_refs import FrozenRefs, frozen_refs
from nemotron.tasks.job_request import build_spec, effective_profile, overrides_of, packager_of
from nemotron.tasks.mirroring import check_mirror, wandb_source, wandb_target
from nemotron.tasks.requirements import check_requirements
from nemotron.tasks.stage_options import Stage, StageOptions


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
    wandb: WandbTarget | None


def plan_stage(
    stage: Stage,
    options: StageOptions,
    inputs: Mapping[str, ArtifactRef],
    store: ArtifactStore,
    refs: FrozenRefs | None = None,
) -> StagePlan:
    """Merge the config, pin and verify the inputs, check what the stage needs, compute its fingerprint.

    `refs` knows what references mean in this run; by default what it does not know is decided now.
    """
    runspec = nemo_runspec.parse(stage.script)
    job_config = merge_config(stage, options, runspec)
    pinned = pin_inputs(stage, job_config, runspec, inputs, options, refs or frozen_refs(options))
    for ref in pinned.values():
        store.verify(ref, "sampled")
    profile = effective_profile(job_config)
    check_machine(stage, runspec, job_config, profile)
    check_process(stage, options, profile)
    check_complete(stage, job_config)
    digest = fp.compute_fingerprint(
        fingerprinted(job_config, options),
        code=fp.digest_code(fp.recipe_code(stage.script), root=recipe_root(stage.script)),
        inputs={slot: ref.digest for slot, ref in pinned.items()},
        sources={key: fp.digest_file(path) for key, path in find_sources(stage, job_config, runspec).items()},
        image=profile.container_image or runspec.image,
    )
    suffix = f"-{options.run_id}" if options.refresh else ""
    work_dir = options.work_root(profile) / f"{stage.name}-{digest[:16]}{suffix}"
    return StagePlan(
        stage=stage,
        runspec=runspec,
        job_config=job_config,
        profile=profile,
        inputs=pinned,
        fingerprint=digest,
        work_dir=work_dir,
        wandb=wandb_target(job_config, options, stage.name, work_dir),
    )


def check_machine(stage: Stage, runspec: nemo_runspec.Runspec, job_config: DictConfig, profile: Profile) -> None:
    """Refuse executors and packagers that there are not, and what the stage needs and this machine lacks."""
    check_supported(profile, job_config.run.profile)
    name = packager_of(runspec, profile)
    if name.replace("-", "_") not in PACKAGERS:
        origin = "run.env.packager" if profile.packager else f"{stage.script}: [tool.runspec.run] packager"
        allowed = ", ".join(PACKAGERS)
        raise ConfigError(f"{stage.name}: {origin} = {name!r}; allowed: {allowed}.{did_you_mean(name, PACKAGERS)}")
    if profile.executor == "local":
        check_requirements(stage.name, job_config)


def check_process(stage: Stage, options: StageOptions, profile: Profile) -> None:
    """Refuse a store in this process's memory for a script that runs in another."""
    if options.store_root.startswith("memory://") and not (options.plain and profile.executor == "local"):
        raise ConfigError(
            f"{stage.name}: NEMOTRON_STORE = {options.store_root} is in this process's memory, and the script runs in "
            "another; give --plain, or a directory or s3://bucket/prefix"
        )


def check_stage(
    stage: Stage, options: StageOptions, *, given: Collection[str], refs: FrozenRefs
) -> tuple[Profile, JobSpec] | None:
    """Refuse what `plan_stage` would refuse; `given` are the input slots that the flow fills.

    Returns what the stage will ask of Slurm, and how; None if it is not to run there.
    """
    runspec = nemo_runspec.parse(stage.script)
    job_config = merge_config(stage, options, runspec)
    profile = effective_profile(job_config)
    check_machine(stage, runspec, job_config, profile)
    check_process(stage, options, profile)
    check_complete(stage, job_config)
    check_mirror(job_config, options)
    find_sources(stage, job_config, runspec)
    store = ArtifactStore(options.store_root)
    for slot, type_name in runspec.artifacts.inputs.items():
        if slot not in given or is_overridden(slot, job_config):
            resolve_slot(stage, slot, type_name, job_config, options, refs)
    if profile.executor != "slurm":
        check_store(store, runspec)
        return None
    check_path(options.work_root(profile).absolute())
    package_code(stage.script, packager_of(runspec, profile))  # refuses what cannot be packaged
    return profile, build_spec(stage, runspec, profile, options)


def check_store(store: ArtifactStore, runspec: nemo_runspec.Runspec) -> None:
    """Raise StoreError if what the script makes could not be published; leaves nothing behind."""
    if store.path is None:
        if runspec.artifacts.output_name:
            with store.backend.writing() as writer:
                writer.probe()
        return
    there = next(path for path in (store.path, *store.path.parents) if path.exists())
    if runspec.artifacts.output_name and not os.access(there, os.W_OK | os.X_OK):
        raise StoreError(
            f"artifact store {store.location}: {there} cannot be written to; make it a directory you can write, "
            "or set NEMOTRON_STORE to one"
        )


def merge_config(stage: Stage, options: StageOptions, runspec: nemo_runspec.Runspec) -> DictConfig:
    """The job config: the named YAML, the profile, the overrides, provenance."""
    context = GlobalContext(
        config=options.config,
        run=None if options.detached else options.profile,
        batch=options.profile if options.detached else None,
        dotlist=list(options.overrides),
        passthrough=list(options.passthrough),
    )
    config = parse_config(context, runspec.config_dir, runspec.config.default)
    found = profile_of_run(options.profile, options.run_id, options.project_dir) if options.profile else None
    profile = profile_for(runspec, found) if found else None
    argv = ["nemotron", *stage.name.split("_"), "-c", options.config, *options.overrides]
    env_file = project_env_file(options.project_dir)
    job_config = build_job_config(
        config, context, runspec.name, str(stage.script), argv, env_profile=profile, env_file=env_file
    )
    if of_block := find_store_settings(options.project_dir).wandb:
        own = OmegaConf.select(job_config, "run.wandb") or {}
        OmegaConf.update(job_config, "run.wandb", {**of_block, **own}, merge=False, force_add=True)
    return job_config


@lru_cache(maxsize=8)
def profile_of_run(name: str, run_id: str, project_dir: Path) -> Profile:  # noqa: ARG001
    """The profile, looked up once a pipeline run: all its stages get the same, and a server is asked once.

    The project's own env.toml comes first: a worker runs the flow in another directory.
    """
    return find_profile(name, env_file=project_env_file(project_dir))


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
    options: StageOptions,
    refs: FrozenRefs,
) -> dict[str, ArtifactRef]:
    """Resolve each declared slot to an exact version and write it into `run.<slot>`.

    A reference given as an override wins over what the flow passes.
    """
    pinned: dict[str, ArtifactRef] = {}
    for slot, type_name in runspec.artifacts.inputs.items():
        if slot in inputs and not is_overridden(slot, job_config):
            ref = inputs[slot]
        else:
            ref = resolve_slot(stage, slot, type_name, job_config, options, refs)
        OmegaConf.update(job_config, f"run.{slot}", f"{ref.name}:{ref.version}", force_add=True)
        pinned[slot] = ref
    return pinned


def check_complete(stage: Stage, job_config: DictConfig) -> None:
    """Raise ConfigError for the first key that the config leaves to the user (`???`) or refers to, and nobody set."""
    config = plain_container(job_config)
    config["run"] = {key: value for key, value in config["run"].items() if key != "cli"}
    left = [key for key, value in leaves_of(config) if value == "???"]
    if left:
        raise ConfigError(
            f"{stage.name}: {left[0]} is not set (??? in config {job_config.run.cli.config!r}); "
            f"give {left[0]}=VALUE, in a pipeline {stage.name}.{left[0]}=VALUE"
        )
    extract_train_config(job_config)


def is_overridden(slot: str, job_config: DictConfig) -> bool:
    """Whether the command line names the artifact of this slot."""
    return f"run.{slot}" in {item.partition("=")[0].lstrip("+") for item in overrides_of(job_config)}


def resolve_slot(
    stage: Stage, slot: str, type_name: str, job_config: DictConfig, options: StageOptions, refs: FrozenRefs
) -> ArtifactRef:
    """The artifact that the config names for the slot.

    Raises:
        ConfigError: it names none, or has something else there than text.
        ArtifactError: there is no such artifact, or it is of another type.
    """
    where = f"{stage.name}: run.{slot}"
    try:
        given = OmegaConf.select(job_config, f"run.{slot}")
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}: {str(error).splitlines()[0]}") from error
    value = OmegaConf.to_container(given) if OmegaConf.is_config(given) else given
    requested = read_slot(value, where=where, type_name=type_name)
    if requested is None:
        raise ConfigError(f"{where} is not set; give run.{slot}=NAME:VERSION ({type_name})")
    try:
        return refs.resolve(requested, type_name, source=lambda: wandb_source(job_config, options))
    except ArtifactError as error:
        raise type(error)(f"{where} = {requested}: {error}") from error


def find_sources(stage: Stage, job_config: DictConfig, runspec: nemo_runspec.Runspec) -> dict[str, Path]:
    """Each input file that the config names, by its place there."""
    found: dict[str, Path] = {}
    origin = f"(from config {job_config.run.cli.config!r})"
    for key in runspec.artifacts.sources:
        try:
            given = OmegaConf.select(job_config, key) or []
            sources = OmegaConf.to_container(given, resolve=True) if OmegaConf.is_config(given) else given
        except OmegaConfBaseException as error:
            raise ConfigError(f"{stage.name}: {key} {origin}: {str(error).splitlines()[0]}") from error
        if not isinstance(sources, list):
            raise ConfigError(f"{stage.name}: {key} = {sources!r} {origin}; expected a list of files")
        for position, source in enumerate(sources):
            place = f"{key}.{position}"
            if isinstance(source, dict):
                found[place] = _check_source(stage, source.get("path"), f"{place}.path", origin)
            else:
                found[place] = _check_source(stage, source, place, origin)
    return found


def _check_source(stage: Stage, path: object, place: str, origin: str) -> Path:
    if isinstance(path, str) and Path(path).is_file():
        return Path(path)
    kind = "a directory" if isinstance(path, str) and Path(path).is_dir() else "not a file"
    raise DataError(f"{stage.name}: {place}: {path} is {kind} {origin}; give a UTF-8 text file with {place}=FILE")


def output_name(runspec: nemo_runspec.Runspec) -> str:
    """The name under which the stage publishes."""
    if runspec.artifacts.output_name is None:
        raise ConfigError(f"{runspec.script_path}: [tool.runspec.artifacts] declares no output = {{ name, type }}")
    return runspec.artifacts.output_name


def fingerprinted(job_config: DictConfig, options: StageOptions) -> dict[str, Any]:
    """What of the config and the command line decides on the artifact."""
    config = plain_container(job_config)
    return {**config, "passthrough": list(options.passthrough)} if options.passthrough else config


def plain_container(config: DictConfig) -> dict[str, Any]:
    """The config as plain data, interpolations left as text."""
    container = OmegaConf.to_container(config, resolve=False)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}
