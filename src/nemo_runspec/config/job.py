"""The job config (everything, with provenance) and the train config (what the script reads) taken from it."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nemo_runspec.cli_context import GlobalContext
from nemo_runspec.config.interpolation import (
    find_references,
    find_run_interpolations,
    resolve_run_interpolations,
    rewrite_paths_for_remote,
)
from nemo_runspec.config.overrides import apply_dotlist_overrides
from nemo_runspec.config.provenance import describe_git, describe_packages, hide_secrets
from nemo_runspec.env import get_artifacts_config, get_wandb_config
from nemo_runspec.errors import ConfigError, did_you_mean

# What a recipe's YAML says of these wins over the profile.
RECIPE_WINS = ("container_image", "nodes", "gpus_per_node", "ntasks_per_node", "nproc_per_node")
# Keys under `run` that are not artifact references.
RUN_KEYS = frozenset({"mode", "profile", "env", "cli", "recipe", "wandb", "requires", "git", "packages", "created"})


def build_job_config(
    train_config: DictConfig,
    ctx: GlobalContext,
    recipe_name: str,
    script_path: str | Path,
    argv: Sequence[str],
    *,
    env_profile: DictConfig | None = None,
    env_file: Path | None = None,
) -> DictConfig:
    """Return the job config: the recipe's config, the profile over `run.env`, provenance, the overrides last.

    `[wandb]` and `[artifacts]` are those of `env_file`, of the env.toml in force without one.

    Raises:
        ValueError: an override does not fit, `run` or a part of it is no section, or env.toml cannot be read.
    """
    config = _to_dict(train_config)
    run = dict(_section(config, "run", ctx))
    script = Path(script_path).resolve()
    wandb = get_wandb_config(env_file)
    artifacts = get_artifacts_config(env_file)
    if env_profile is not None or "env" in run:
        own = _section(config, "run.env", ctx)
        run["env"] = merge_profile(own, _to_dict(env_profile) if env_profile is not None else {})
    if wandb is not None:
        run["wandb"] = {**_to_dict(wandb), **_section(config, "run.wandb", ctx)}
    run |= {
        "mode": ctx.mode,
        "profile": ctx.profile,
        "cli": {
            "argv": list(argv),
            "dotlist": list(ctx.dotlist),
            "passthrough": list(ctx.passthrough),
            "config": ctx.config or "default",
        },
        "recipe": {"name": recipe_name, "script": str(script), "dir": str(script.parent)},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": describe_git(script.parent),
        "packages": dict(describe_packages()),
    }
    config["run"] = run
    if artifacts is not None:
        config["artifacts"] = {**_to_dict(artifacts), **_section(config, "artifacts", ctx)}
    return apply_dotlist_overrides(OmegaConf.create(config), ctx.dotlist, strict=False)


def merge_profile(recipe_env: Mapping[str, Any], profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return the profile over the recipe's `run.env`: env_vars merged, mounts joined, resources as the recipe says."""
    merged = {**recipe_env, **profile}
    merged |= {key: recipe_env[key] for key in RECIPE_WINS if recipe_env.get(key) is not None}
    if "env_vars" in merged:
        merged["env_vars"] = {**(recipe_env.get("env_vars") or {}), **(profile.get("env_vars") or {})}
    if "mounts" in merged:
        mounts = [*(recipe_env.get("mounts") or []), *(profile.get("mounts") or [])]
        # Not by hash: those of some executors are tables.
        merged["mounts"] = [mount for position, mount in enumerate(mounts) if mount not in mounts[:position]]
    return merged


def extract_train_config(
    job_config: DictConfig, *, for_remote: bool = False, repo_root: str | Path | None = None
) -> DictConfig:
    """Return what the script reads: no `run` but its artifact references, `${run.*}` resolved, other `${…}` as text.

    For a remote run, paths under `repo_root` (the working directory by default) become those of the packaged code.

    Raises:
        ValueError: `${run.KEY}` or `${KEY}` names a key that is not set.
    """
    config = _to_dict(job_config)
    run = config.pop("run", None) or {}
    references = {key: value for key, value in run.items() if key not in RUN_KEYS and isinstance(value, str)}
    name = (run.get("cli") or {}).get("config")
    origin = f"config {name!r}" if name else "config"
    resolved = resolve_run_interpolations(config, run)
    for key in find_run_interpolations(resolved):
        known = list(_dotted(run))
        raise ConfigError(f"{origin}: ${{run.{key}}}: run.{key} is not set; give run.{key}=…{did_you_mean(key, known)}")
    for key in find_references(resolved):
        if not _has(resolved, key.split(".")):
            hint = did_you_mean(key, _dotted(resolved))
            raise ConfigError(f"{origin}: ${{{key}}}: it has no {key}; add it, or correct the name.{hint}")
    if for_remote:
        resolved = rewrite_paths_for_remote(resolved, Path(repo_root or Path.cwd()).resolve())
    if references:
        resolved["run"] = resolve_run_interpolations(references, run)
    train_config: DictConfig = OmegaConf.create(resolved)
    return train_config


def save_configs(job_config: DictConfig, train_config: DictConfig, job_dir: str | Path) -> tuple[Path, Path]:
    """Write job.yaml, with secrets hidden, and train.yaml, for this user only; returns their paths."""
    folder = Path(job_dir)
    folder.mkdir(parents=True, exist_ok=True)
    job = hide_secrets(_to_dict(job_config))
    paths = folder / "job.yaml", folder / "train.yaml"
    for path, config in zip(paths, (OmegaConf.create(job), train_config), strict=True):
        partial = path.with_suffix(".partial")
        partial.touch(mode=0o600)  # the script's config may hold what nobody else is to read
        partial.write_text(OmegaConf.to_yaml(config, resolve=False), encoding="utf-8")
        os.replace(partial, path)
    return paths


def generate_job_dir(name: str, base_dir: str | Path | None = None) -> Path:
    """Create and return `<base_dir>/.nemotron/jobs/<timestamp>-<name>`, a new directory each time."""
    parent = Path(base_dir or Path.cwd()) / ".nemotron" / "jobs"
    parent.mkdir(parents=True, exist_ok=True)
    stem = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-')}"
    for number in itertools.count():
        path = parent / (f"{stem}-{number}" if number else stem)
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise AssertionError("unreachable: itertools.count does not end")


def _section(config: Mapping[str, Any], place: str, ctx: GlobalContext) -> Mapping[str, Any]:
    """The section of the config at that place, which is known to be below sections; empty if it is not there."""
    value: Any = config
    for part in place.split("."):
        value = value.get(part) or {}
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"config {ctx.config or 'default'!r}: {place} = {value!r}; expected a section of `key: value`"
        )
    return value


def _has(tree: Any, parts: Sequence[str]) -> bool:
    """Whether the key is there; below a text, which may stand for something else, any is."""
    if not parts or isinstance(tree, str):
        return True
    if isinstance(tree, list):
        return parts[0].isdecimal() and int(parts[0]) < len(tree) and _has(tree[int(parts[0])], parts[1:])
    return isinstance(tree, Mapping) and parts[0] in tree and _has(tree[parts[0]], parts[1:])


def _to_dict(config: DictConfig) -> dict[str, Any]:
    container = OmegaConf.to_container(config, resolve=False)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in tree.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            keys += _dotted(value, f"{prefix}{key}.")
    return keys
