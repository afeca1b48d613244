"""Typer commands for recipes: each takes the global options and `key=value` anywhere, and shows them in panels."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from nemo_runspec.errors import RunspecError
from nemo_runspec.help_panels import PanelGroup
from nemo_runspec.recipe_command import (
    CompleteArtifact,
    ListProfiles,
    RecipeMeta,
    command_class,
    complete_config,
    complete_profile,
)

__all__ = ["RecipeMeta", "RecipeTyper"]

Function = Callable[[typer.Context], Any]


class RecipeTyper(typer.Typer):
    """A Typer app of recipe commands.

    >>> app = RecipeTyper(name="hello")
    >>> @app.recipe_command(meta=RecipeMeta("hello/train", "train.py", "config"))
    ... def train(ctx: typer.Context) -> None:
    ...     print(parse_recipe_config(ctx).dotlist)
    """

    def __init__(
        self,
        *args: Any,
        list_profiles: ListProfiles | None = None,
        complete_artifact: CompleteArtifact | None = None,
        **settings: Any,
    ) -> None:
        defaults = {"cls": PanelGroup, "rich_markup_mode": None, "no_args_is_help": True, "add_completion": False}
        super().__init__(*args, **{**defaults, **settings})
        self._list_profiles = list_profiles
        self._complete_artifact = complete_artifact

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run as a program; what is refused is one line and exit code 2."""
        try:
            return super().__call__(*args, **kwargs)
        except RunspecError as error:
            sys.stderr.write(f"error: {error}\n")
            raise SystemExit(2) from None

    def recipe_command(self, name: str | None = None, **settings: Any) -> Callable[[Function], Function]:
        """Decorate the function of a recipe command; settings as of `add_recipe_command`."""

        def decorate(fn: Function) -> Function:
            self.add_recipe_command(fn, name=name, **settings)
            return fn

        return decorate

    def add_recipe_command(
        self,
        fn: Function,
        *,
        meta: RecipeMeta | None = None,
        config_dir: str | Path | None = None,
        input_artifacts: Mapping[str, str] | None = None,
        output_artifacts: Mapping[str, str] | None = None,
        config_model: type[Any] | None = None,
        rich_help_panel: str | None = None,
        name: str | None = None,
    ) -> None:
        """Add a command that calls `fn` with its context; `parse_recipe_config` reads that. Options win over `meta`."""
        command_name = name or (meta.name.rpartition("/")[2] if meta else fn.__name__.replace("_", "-"))
        given = meta or RecipeMeta(command_name, "", config_dir or "")
        shown = RecipeMeta(
            given.name,
            given.script_path,
            config_dir or given.config_dir,
            given.default_config,
            input_artifacts if input_artifacts is not None else given.input_artifacts,
            output_artifacts if output_artifacts is not None else given.output_artifacts,
            config_model or given.config_model,
            given.stages,
        )
        self.command(
            command_name,
            cls=command_class(shown, self._list_profiles, self._complete_artifact),
            help=fn.__doc__,
            context_settings={"help_option_names": ["-h", "--help"]},
            rich_help_panel=rich_help_panel,
            options_metavar="[OPTIONS]",
        )(_declare(fn))


def _declare(fn: Function) -> Callable[..., Any]:
    """The function with the global options as parameters, which Typer's completion needs; their values are not used."""

    def command(
        ctx: typer.Context,
        config: str = typer.Option(None, "-c", "--config", autocompletion=complete_config),  # noqa: ARG001
        run: str = typer.Option(None, "-r", "--run", autocompletion=complete_profile),  # noqa: ARG001
        batch: str = typer.Option(None, "-b", "--batch", autocompletion=complete_profile),  # noqa: ARG001
        dry_run: bool = typer.Option(False, "-d", "--dry-run"),  # noqa: ARG001
        stage: bool = typer.Option(False, "--stage"),  # noqa: ARG001
        force_squash: bool = typer.Option(False, "--force-squash"),  # noqa: ARG001
        refresh: bool = typer.Option(False, "--refresh"),  # noqa: ARG001
    ) -> Any:
        return fn(ctx)

    return command
