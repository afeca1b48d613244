"""`--dry-run`: shows what would be done, on standard output, and does nothing."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from nemo_runspec.config.origins import Overridden
from nemo_runspec.config.provenance import hide_secrets
from nemo_runspec.profiles import Profile
from nemotron.flows.pipelines import build_pipeline, walk
from nemotron.flows.preview import JobPreview, Preview, StagePreview
from nemotron.flows.runs import RunRequest

REFUSED = 2
NO_TERMINAL_WIDTH = 160
_NOT_SHOWN = ("git", "packages", "created", "cli", "recipe")
_RESOURCES = ("nodes", "gpus_per_node", "nproc_per_node", "ntasks_per_node", "cpus_per_task", "mem", "time")
_PLACE = ("account", "partition", "run_partition", "batch_partition", "qos", "container_image", "host")


def show_dry_run(request: RunRequest, home: Path) -> int:
    """Print each stage's preview; 2 if one of them would be refused, else 0."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = NO_TERMINAL_WIDTH
    with tempfile.TemporaryDirectory(prefix="nemotron-dry-run-") as cache:
        pipeline = build_pipeline(request, project_dir=home.parent)
        pipeline.options = replace(pipeline.options, cache_dir=Path(cache))
        preview = Preview(**vars(pipeline))
        walk(request, preview)
    for stage in preview.stages:
        show_stage(console, stage)
    refused = [stage for stage in preview.stages if stage.refused]
    for stage in refused:
        sys.stderr.write(f"error: {stage.refused}\n")
    console.print("\nDry run: nothing was started or written.", style="dim")
    return REFUSED if refused else 0


def show_stage(console: Console, stage: StagePreview) -> None:
    """Print all that is known of a stage."""
    console.rule(f"[bold]{stage.name}", align="left")
    if stage.config is not None:
        show_yaml(console, hide_secrets(shown_config(stage.config)))
    if stage.overridden:
        heading(console, "overridden values")
        for line in origin_lines(stage.overridden):
            console.print(f"  {line}", markup=False)
    heading(console, "artifacts")
    for line in artifact_lines(stage):
        console.print(f"  {line}", markup=False)
    if stage.job:
        show_job(console, stage.job)
    if stage.refused:
        heading(console, "would be refused")
        console.print(f"  {stage.refused}", markup=False)


def show_job(console: Console, job: JobPreview) -> None:
    """Print where the stage would run, with what, and the files or the command of it."""
    heading(console, "resources")
    console.print(f"  {describe_resources(job.profile)}", markup=False)
    heading(console, "command")
    console.print(f"  {shlex.join(job.command)}", markup=False)
    for name, text in job.files.items():
        heading(console, name)
        console.print(text.rstrip("\n"), markup=False)


def heading(console: Console, title: str) -> None:
    """Print a title over what follows."""
    console.print(f"\n# {title}", style="bold cyan")


def show_yaml(console: Console, tree: Mapping[str, Any]) -> None:
    """Print the config as YAML, coloured on a terminal."""
    text = OmegaConf.to_yaml(OmegaConf.create(dict(tree)), resolve=False).rstrip("\n")
    heading(console, "config")
    if not console.is_terminal:
        console.print(text, markup=False)
        return
    from rich.syntax import Syntax

    console.print(Syntax(text, "yaml", background_color="default", word_wrap=True))


def shown_config(config: Any) -> dict[str, Any]:
    """The job config without what is said elsewhere."""
    container = OmegaConf.to_container(config, resolve=False)
    assert isinstance(container, dict)
    run = {key: value for key, value in (container.get("run") or {}).items() if key not in _NOT_SHOWN}
    return {**{str(key): value for key, value in container.items()}, "run": run}


def origin_lines(overridden: Sequence[Overridden]) -> list[str]:
    """`key: value (from X, instead of Y from Z)` of each."""
    return [
        f"{each.key}: {_hidden(each.key, each.value)}  from {each.origin}"
        + (f", instead of {_hidden(each.key, each.instead_of)} from {each.whose}" if each.whose else "")
        for each in overridden
    ]


def artifact_lines(stage: StagePreview) -> list[str]:
    """What the stage takes, and what it would reuse or make."""
    lines = [f"input {slot}: {ref} ({ref.type})" for slot, ref in stage.inputs.items()]
    if stage.waits_for:
        lines.append(f"inputs are made by: {', '.join(sorted(stage.waits_for))}")
    if stage.reuses:
        lines.append(f"reuses {stage.reuses}, made by run {stage.made_by}: nothing would be run")
    elif stage.job and stage.job.follows:
        lines.append(f"follows {stage.job.follows}: nothing would be submitted")
    elif not stage.refused:
        lines.append("nothing to reuse: it would be run")
    return lines


def describe_resources(profile: Profile) -> str:
    """`slurm  nodes=2 gpus_per_node=8 …` of a profile."""
    named = [f"{name}={value}" for name in (*_RESOURCES, *_PLACE) if (value := getattr(profile, name)) is not None]
    return f"{profile.executor}  {' '.join(named) or 'one process'}"


def _hidden(key: str, value: Any) -> Any:
    leaf = key.rpartition(".")[2]
    return "***" if ".env_vars." in key else hide_secrets({leaf: value})[leaf]
