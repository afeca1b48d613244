"""The `nemotron` command: commands of recipes, and what is done with runs, artifacts and profiles.

Everything heavy is imported where a command does its work: `nemotron --help` must be quick.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Collection, Sequence
from typing import Any

import typer
import typer.main

from nemo_runspec.errors import RunspecError
from nemo_runspec.help_panels import Panel, PanelGroup
from nemo_runspec.recipe_scripts import RecipeScripts
from nemotron.cli.command_line import hoist, take_debug
from nemotron.cli.group import CONTEXT, CommandGroup, new_group
from nemotron.cli.recipes import PIPE, PIPELINES, add_recipes, find_recipes

ABOUT = "Train, tune and align models by recipes: on this machine, on a Slurm cluster, or as durable Prefect flows."
COMPLETE_VARIABLE = "_NEMOTRON_COMPLETE"
COMPLETION = {
    "--install-completion": "Install completion for the current shell",
    "--show-completion": "Show it, to copy or to change it",
}
GROUPS = {
    "runs": "Runs of this project: list them, look at one, follow it, end it, take it up again.",
    "artifacts": "Artifacts: data sets and models by name and version, and where they came from.",
    "env": "Profiles: where stages run, from env.toml or from Prefect blocks.",
}
DOCTOR = "doctor"
ABOUT_DOCTOR = "Check this installation and this project; exit code 1 if something cannot work."
REFUSED = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 2 when it is refused, else as the command says."""
    args, debug = take_debug(sys.argv[1:] if argv is None else argv)
    try:
        return _run(args)
    except RunspecError as error:
        if debug:
            raise
        sys.stderr.write(f"error: {error}\n")
        return getattr(error, "exit_code", REFUSED)
    except typer.TyperException as error:
        if debug:
            raise
        return _say_usage(error)
    except (typer.Abort, KeyboardInterrupt) as interrupt:
        sys.stderr.write(f"interrupted{f': {interrupt}' if str(interrupt) else ''}\n")
        return INTERRUPTED
    except BrokenPipeError:  # `nemotron … | head`
        sys.stderr.close()
        return 0


def _run(args: list[str]) -> int:
    found = find_recipes()
    completes = COMPLETE_VARIABLE in os.environ or any(arg in args for arg in COMPLETION)
    app = build_app(found, words=None if completes else args)
    commands = {*found.by_command, *((recipe, PIPE) for recipe in PIPELINES)}
    command = typer.main.get_command(app)
    code = command.main(args=hoist(args, commands), prog_name="nemotron", standalone_mode=False)
    return code if isinstance(code, int) else 0


class RootGroup(PanelGroup):
    """Shows the options for completion, too."""

    def panels(self, ctx: Any) -> list[Panel]:
        """See `PanelGroup`."""
        *others, options = super().panels(ctx)
        shown = {row[0] for row in options.rows}
        added = [row for row in COMPLETION.items() if row[0] not in shown]
        return [*others, Panel(title=options.title, rows=[*options.rows, *added])]


def build_app(found: RecipeScripts, *, words: Collection[str] | None = None) -> typer.Typer:
    """The command with what is below the groups that `words` name; all of it, and completion, without any words.

    What is not there need not be imported: that is half of the time that a help text takes.
    """
    app = CommandGroup(
        help=ABOUT,
        cls=RootGroup,
        add_completion=words is None,
        rich_markup_mode=None,
        context_settings=CONTEXT,
        no_args_is_help=True,
        invoke_without_command=True,
    )
    app.callback()(_root)
    add_recipes(app, found, words=words)
    for name, about in GROUPS.items():
        is_needed = words is None or name in words
        app.add_typer(_load(name).app if is_needed else new_group(about), name=name, help=about)
    if words is None or DOCTOR in words:
        app.command(DOCTOR)(_load(DOCTOR).doctor)
    else:
        app.command(DOCTOR, help=ABOUT_DOCTOR)(lambda: None)
    return app


def _load(name: str) -> Any:
    return importlib.import_module(f"nemotron.cli.{name}")


def _root(
    version: bool = typer.Option(False, "--version", help="Show the version"),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error"),  # noqa: ARG001  see take_debug
) -> None:
    if version:
        import importlib.metadata

        typer.echo(importlib.metadata.version("nemotron-flows"))
        raise typer.Exit


def _say_usage(error: typer.TyperException) -> int:
    """Tell of a wrong call in a line, and where its help is."""
    ctx = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message())
        return REFUSED
    message = error.format_message().rstrip(".")
    path = ctx.command_path if ctx else "nemotron"
    have = ""
    commands = getattr(ctx.command, "commands", None) if ctx else None
    if commands and message.startswith("No such command"):
        have = f"; have: {', '.join(commands)}"
    sys.stderr.write(f"error: {message}{have}; see {path} --help\n")
    return REFUSED
