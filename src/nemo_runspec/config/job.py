"""The job config (everything, with provenance) and the train config (what the script reads)."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nemo_runspec.cli_context import GlobalContext
from nemo_runspec.config.loading import find_config_file, load_config
from nemo_runspec.config.overrides import apply_dotlist_overrides

# The recipe's YAML knows its own shape better than a profile does.
YAML_WINS = ("container_image", "nodes", "gpus_per_node", "ntasks_per_node", "nproc_per_node")
PACKAGES = ("nemotron-flows", "torch", "megatron-core", "ray", "prefect", "omegaconf")


def parse_config(ctx: GlobalContext, config_dir: str | Path, default_config: str) -> DictConfig:
    """The config that the context names (or the default one), with the context's overrides."""
    config = load_config(find_config_file(ctx.config or default_config, config_dir))
    return apply_dotlist_overrides(config, ctx.dotlist)


def build_job_config(
    train_config: DictConfig,
    ctx: GlobalContext,
    recipe_name: str,
    script_path: str,
    argv: Sequence[str],
    *,
    env_profile: DictConfig | None = None,
) -> DictConfig:
    """Merge profile, config and overrides (the overrides win) and add where all of it came from."""
    job = OmegaConf.merge(train_config, {"run": {"env": _profile_env(env_profile, train_config)}})
    assert isinstance(job, DictConfig)
    job = apply_dotlist_overrides(job, ctx.dotlist)
    script = Path(script_path).resolve()
    provenance = {
        "mode": ctx.mode,
        "profile": ctx.profile,
        "cli": {
            "argv": list(argv),
            "dotlist": list(ctx.dotlist),
            "passthrough": list(ctx.passthrough),
            "config": ctx.config,
        },
        "recipe": {"name": recipe_name, "script": str(script), "dir": str(script.parent)},
        "git": _git_state(script.parent),
        "packages": _package_versions(),
    }
    OmegaConf.update(job, "run", provenance, merge=True, force_add=True)
    return job


def extract_train_config(job_config: DictConfig, *, for_remote: bool = False) -> DictConfig:
    """The config without `run` but its artifact references; `${run.*}` resolved, other interpolations kept."""
    raw = OmegaConf.to_container(job_config, resolve=False)
    assert isinstance(raw, dict)
    provenance = {"mode", "profile", "env", "cli", "recipe", "git", "packages", "wandb", "requires"}
    run = {key: value for key, value in raw["run"].items() if key not in provenance}
    rest = {str(key): _resolve_run(value, job_config) for key, value in raw.items() if key != "run"}
    if for_remote:
        raise ValueError("for_remote=True: remote runs come with the Slurm executors; use for_remote=False")
    return OmegaConf.create({"run": run, **rest})


def save_configs(job: DictConfig, train: DictConfig, job_dir: str | Path) -> tuple[Path, Path]:
    """Write job.yaml and train.yaml into `job_dir` and return their paths."""
    folder = Path(job_dir)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "job.yaml", folder / "train.yaml"
    for config, path in zip((job, train), paths, strict=True):
        OmegaConf.save(config, path, resolve=False)
    return paths


def generate_job_dir(name: str, base_dir: str | Path | None = None) -> Path:
    """A new `<base>/.nemotron/jobs/<timestamp>-<name with dashes>`, created here, so never shared by two jobs."""
    jobs = Path(base_dir or Path.cwd()) / ".nemotron" / "jobs"
    jobs.mkdir(parents=True, exist_ok=True)
    stem = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{name.replace('/', '-').replace('_', '-')}"
    folder = jobs / stem
    while True:
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            folder = jobs / f"{stem}-{uuid.uuid4().hex[:4]}"


def _profile_env(profile: DictConfig | None, config: DictConfig) -> DictConfig:
    env = OmegaConf.create({}) if profile is None else OmegaConf.create(profile)
    own = OmegaConf.select(config, "run.env") or OmegaConf.create({})
    mounts = [*(env.get("mounts") or []), *(own.get("mounts") or [])]
    shape = {key: own[key] for key in YAML_WINS if key in own}
    merged = OmegaConf.merge(own, env, shape, {"mounts": mounts} if mounts else {})
    assert isinstance(merged, DictConfig)
    return merged


def _resolve_run(value: Any, job: DictConfig) -> Any:
    if isinstance(value, dict):
        return {str(key): _resolve_run(item, job) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve_run(item, job) for item in value]
    if not isinstance(value, str) or "${run." not in value:
        return value
    for part in value.split("${run.")[1:]:
        key = part.partition("}")[0]
        found = OmegaConf.select(job, f"run.{key}")
        if value == f"${{run.{key}}}" and found is not None:
            return found
        if found is not None:
            value = value.replace(f"${{run.{key}}}", str(found))
    return value


def _git_state(folder: Path) -> dict[str, object]:
    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    sha = git("rev-parse", "HEAD")
    return {"sha": sha, "dirty": bool(git("status", "--porcelain")) if sha else None}


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
