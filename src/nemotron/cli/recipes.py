"""The commands of the recipes: from the metadata of each script, in this package and in the user's project."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import typer

from nemo_runspec.env_file import FILE_NAME
from nemo_runspec.errors import ConfigError
from nemo_runspec.project import find_project
from nemo_runspec.recipe_config import RecipeConfig, parse_recipe_config
from nemo_runspec.recipe_scripts import RecipeScript, RecipeScripts, find_recipe_scripts
from nemo_runspec.recipe_typer import Function, RecipeMeta, RecipeTyper
from nemotron.cli.completion import complete_artifact
from nemotron.cli.group import CONTEXT

OWN_RECIPES = Path(__file__).resolve().parent.parent / "recipes"
RESERVED = frozenset({"runs", "artifacts", "env", "deploy", "doctor", "server", "worker"})
PIPELINES = {"nano3": "Run the whole chain: data prep, pretrain, data prep, SFT, data prep, RL."}
PIPE = "pipe"


def recipe_folders() -> list[Path]:
    """Where recipes are looked for, the user's project first."""
    return [find_project() / "recipes", OWN_RECIPES]


def find_recipes() -> RecipeScripts:
    """All recipe scripts; one whose command is taken is a problem."""
    found = find_recipe_scripts(recipe_folders())
    for command, script in list(found.by_command.items()):
        taken = command[0] in RESERVED or (command == (command[0], PIPE) and command[0] in PIPELINES)
        if taken or len(command) < 2:
            del found.by_command[command]
            reason = "this is a command of nemotron" if taken else "it needs a recipe and a stage, as hello/train"
            found.problems[script.runspec.script_path] = ConfigError(
                f"{script.runspec.script_path}: [tool.runspec] name = {'/'.join(command)!r}: {reason}; choose another"
            )
    return found


def add_recipes(app: typer.Typer, found: RecipeScripts, *, words: Collection[str] | None = None) -> None:
    """Add a command for each script, in nested groups; only the group itself of a recipe that `words` do not name."""
    groups: dict[tuple[str, ...], RecipeTyper] = {}
    for command, script in found.by_command.items():
        if words is not None and script.recipe not in words:
            _group(app, groups, command[:1], found)
            continue
        group = _group(app, groups, command[:-1], found)
        group.add_recipe_command(_stage_function(script), meta=_meta(script), name=command[-1])
    for recipe, about in PIPELINES.items():
        if (recipe,) in groups and (words is None or recipe in words):
            _add_pipe(groups[recipe,], recipe, about, found)


def _group(
    app: typer.Typer, groups: dict[tuple[str, ...], RecipeTyper], path: tuple[str, ...], found: RecipeScripts
) -> RecipeTyper:
    if path not in groups:
        names = [" ".join(command[len(path) :]) for command in found.by_command if command[: len(path)] == path]
        about = f"{' '.join(path)}: {', '.join(names)}."
        groups[path] = RecipeTyper(
            help=about,
            list_profiles=list_profile_rows,
            complete_artifact=complete_artifact,
            context_settings=CONTEXT,
        )
        parent = _group(app, groups, path[:-1], found) if len(path) > 1 else app
        panel = "Recipes" if len(path) == 1 else None
        parent.add_typer(groups[path], name=path[-1], rich_help_panel=panel)
    return groups[path]


def _meta(script: RecipeScript) -> RecipeMeta:
    runspec = script.runspec
    output = runspec.artifacts.output_name
    return RecipeMeta(
        "/".join(script.command),
        runspec.script_path,
        runspec.config_dir,
        runspec.config.default,
        dict(runspec.artifacts.inputs),
        {output: runspec.artifacts.output_type or ""} if output else {},
    )


def _stage_function(script: RecipeScript) -> Function:
    def command(ctx: typer.Context) -> int:
        return start_stage(script, parse_recipe_config(ctx))

    command.__doc__ = script.runspec.docs or f"Run {script.runspec.script_path.name}."
    return command


def start_stage(script: RecipeScript, asked: RecipeConfig) -> int:
    """Do what the command line asks for with the script; the exit code. Imports the rest only now."""
    from nemotron.cli.recipe_run import run_command, stage_request

    return run_command(stage_request(script, asked), asked)


def _add_pipe(group: RecipeTyper, recipe: str, about: str, found: RecipeScripts) -> None:
    def command(ctx: typer.Context) -> int:
        from nemotron.cli.recipe_run import pipe_request, run_command

        asked = parse_recipe_config(ctx)
        return run_command(pipe_request(recipe, asked), asked)

    command.__doc__ = f"{about} Overrides begin with the stage: sft.train.train_iters=50."
    scripts = [script for script in found.by_command.values() if script.recipe == recipe]
    stages = tuple(script.stage for script in scripts)
    meta = RecipeMeta(f"{recipe}/{PIPE}", "", scripts[-1].runspec.config_dir, stages=stages)
    group.add_recipe_command(command, meta=meta, name=PIPE)


def list_profile_rows() -> list[tuple[str, ...]]:
    """The profiles for the help: name, what it is, where it comes from."""
    from nemotron.cli.profile_list import list_profiles

    project = find_project()
    found = list_profiles(project)
    own = f" ({project / FILE_NAME})"  # which file, only where it is not the project's own
    rows = [(row.name, row.summary, row.origin.removesuffix(own)) for row in found.rows if not row.shadowed]
    return [*rows, *(("", note) for note in found.notes)]
