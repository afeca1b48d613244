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
from nemotron.cli.bash_completion import VARIABLE, bash_words
from nemotron.cli.command_line import UnknownCommand, hoist, take_debug
from nemotron.cli.group import CONTEXT, CommandGroup, new_group
from nemotron.cli.recipes import PIPE, PIPELINES, add_recipes, find_recipes

ABOUT = "Train, tune and align models by recipes: on this machine, on a Slurm cluster, or as durable Prefect flows."
COMPLETION = {
    "--install-completion": "Install completion for the current shell",
    "--show-completion": "Show it, to copy or to change it",
}
GROUPS = {
    "runs": "Runs of this project: list them, look at one, follow it, end it, take it up again.",
    "artifacts": "Artifacts: data sets and models by name and version, and where they came from.",
    "env": "Profiles: where stages run, from env.toml or from Prefect blocks.",
    "server": "A Prefect server with PostgreSQL for a team: start it, ask for it, save it.",
    "worker": "A worker that starts the team's flow runs on this machine, and is started again when it dies.",
}
COMMANDS = {
    "deploy": "Register the deployments of nano3, their work pool and automations; what is so already is left alone.",
    "doctor": "Check this installation and this project; exit code 1 if something cannot work.",
}
FAILED = 1
REFUSED = 2
INTERRUPTED = 130
NO_COMMAND = "No such command"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 2 when it is refused, else as the command says."""
    args, debug = take_debug(sys.argv[1:] if argv is None else argv)
    try:
        return _run(args)
    except RunspecError as error:
        if debug:
            raise
        sys.stderr.write(f"error: {error}\n")
        _say_notes(error)
        return getattr(error, "exit_code", REFUSED)
    except typer.TyperException as error:
        if debug:
            raise
        return _say_usage(error)
    except (typer.Abort, KeyboardInterrupt) as interrupt:
        sys.stderr.write(f"interrupted{f': {interrupt}' if str(interrupt) else ''}\n")
        return INTERRUPTED
    except BrokenPipeError:  # `nemotron … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python docs, signal: "Note on SIGPIPE"
        return 0
    except OSError as error:
        if debug:
            raise
        sys.stderr.write(f"error: {error}; --debug shows where\n")
        return FAILED


def _run(args: list[str]) -> int:
    found = find_recipes()
    completes = VARIABLE in os.environ or any(arg in args for arg in COMPLETION)
    app = build_app(found, words=None if completes else args)
    commands = {*found.by_command, *((recipe, PIPE) for recipe in PIPELINES)}
    command = typer.main.get_command(app)
    try:
        words = hoist(args, commands)
        if completes:
            with bash_words():
                command.main(args=words, prog_name="nemotron", standalone_mode=False)
            return 0
        return _invoke(command, words)
    except (UnknownCommand, typer.TyperException) as error:
        if isinstance(error, UnknownCommand) or error.format_message().startswith(NO_COMMAND):
            for problem in found.problems.values():
                error.add_note(f"note: no command is made of {problem}")
        raise


def _invoke(command: Any, words: list[str]) -> int:
    """Do as `command.main`, which would swallow what a KeyboardInterrupt says."""
    try:
        with command.make_context("nemotron", words) as ctx:
            code = command.invoke(ctx)
    except typer.Exit as done:
        code = done.exit_code
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
    for name, about in COMMANDS.items():
        if words is None or name in words:
            app.command(name)(getattr(_load(name), name))
        else:
            app.command(name, help=about)(lambda: None)
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
    if commands and message.startswith(NO_COMMAND):
        have = f"; have: {', '.join(commands)}"
    sys.stderr.write(f"error: {message}{_given(error)}{have}; see {path} --help\n")
    _say_notes(error)
    return REFUSED


def _given(error: typer.TyperException) -> str:
    """`, got VALUE`: Typer has its values checked by pydantic, whose messages do not repeat them."""
    found: list[dict[str, Any]] = getattr(error.__cause__, "errors", list)()
    return f", got {found[0]['input']!r}" if found and repr(found[0]["input"]) not in str(error.message) else ""


def _say_notes(error: Exception) -> None:
    for note in getattr(error, "__notes__", ()):
        sys.stderr.write(f"{note}\n")
