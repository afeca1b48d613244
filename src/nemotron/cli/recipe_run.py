"""What a recipe command does: run its stage or pipeline, show what it would do, or copy it to where it is to run."""

from __future__ import annotations

from pathlib import Path

from nemo_runspec.errors import ConfigError
from nemo_runspec.project import find_project
from nemo_runspec.recipe_config import RecipeConfig
from nemo_runspec.recipe_scripts import RecipeScript
from nemotron.flows.command import new_run_id, run_or_follow, set_up
from nemotron.flows.run_control import say_left, wait_until_started
from nemotron.flows.runs import RunRequest


def stage_request(script: RecipeScript, asked: RecipeConfig) -> RunRequest:
    """A run of one stage."""
    return _request(
        asked,
        recipe="/".join(script.command),
        script=str(script.runspec.script_path),
        default=script.runspec.config.default,
    )


def pipe_request(recipe: str, asked: RecipeConfig) -> RunRequest:
    """A run of a whole pipeline.

    Raises:
        ConfigError: arguments for a script, of which a pipeline has several, or an option for one stage.
    """
    if asked.passthrough:
        given = " ".join(asked.passthrough)
        raise ConfigError(
            f"-- {given}: a pipeline has several scripts; run the one stage, as nemotron {recipe} sft -- {given}"
        )
    if asked.stage:
        raise ConfigError(
            f"--stage: a pipeline's stages need each other's results; stage one, as nemotron {recipe} sft"
        )
    return _request(asked, recipe=recipe, script=None, default="default")


def run_command(request: RunRequest, asked: RecipeConfig) -> int:
    """Do what was asked for; the exit code."""
    home = find_project() / ".nemotron"
    if asked.dry_run:
        from nemotron.cli.dry_run import show_dry_run

        return show_dry_run(request, home)
    if asked.force_squash:
        from nemotron.cli.squashing import with_squashed_images

        request = with_squashed_images(request, home)
    if asked.stage:
        from nemotron.cli.staging import stage_run

        return stage_run(request, home)
    return start(request, home)


def start(request: RunRequest, home: Path) -> int:
    """Run it, here or in the background; the exit code."""
    set_up(home)
    code = run_or_follow(request, home, plain=False, detach=request.detached, say=say_left)
    return wait_until_started(home, request.run_id) if request.detached and code == 0 else code


def _request(asked: RecipeConfig, *, recipe: str, script: str | None, default: str) -> RunRequest:
    return RunRequest(
        run_id=new_run_id(),
        recipe=recipe,
        script=script,
        config=asked.config or default,
        stages=(),
        overrides=tuple(asked.dotlist),
        passthrough=tuple(asked.passthrough),
        profile=asked.profile,
        refresh=asked.ctx.refresh,
        show_logs=asked.attached and (script is not None or asked.profile is not None),
        detached=not asked.attached,
    )
