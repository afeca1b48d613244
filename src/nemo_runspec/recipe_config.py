"""The command line of one recipe command, parsed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nemo_runspec.cli_context import GlobalContext, Mode, split_unknown_args
from nemo_runspec.errors import ConfigError

if TYPE_CHECKING:
    import typer


@dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    """What was asked for: global options, `key=value` overrides, and what goes to the script."""

    ctx: GlobalContext
    argv: list[str] = field(default_factory=list)
    dotlist: list[str] = field(default_factory=list)
    passthrough: list[str] = field(default_factory=list)

    @property
    def mode(self) -> Mode:
        """`local`, `run` (attached) or `batch` (detached)."""
        return self.ctx.mode

    @property
    def attached(self) -> bool:
        """Whether the command stays until the job has ended."""
        return self.ctx.batch is None

    @property
    def profile(self) -> str | None:
        """The profile's name, None for a local run."""
        return self.ctx.profile

    @property
    def config(self) -> str | None:
        """The config's name or path, None for the recipe's default."""
        return self.ctx.config

    @property
    def dry_run(self) -> bool:
        """Show what would be done and do nothing."""
        return self.ctx.dry_run

    @property
    def stage(self) -> bool:
        """Copy code and configs to the target and start nothing."""
        return self.ctx.stage

    @property
    def force_squash(self) -> bool:
        """Make the squash file of the container image anew."""
        return self.ctx.force_squash


def parse_recipe_config(typer_ctx: typer.Context) -> RecipeConfig:
    """Return what a recipe command was asked for; options count before and after the command.

    Raises:
        ConfigError: an unknown option or word, or options that exclude each other. The `nemotron` command prints it
            and exits with code 2.
    """
    before = typer_ctx.obj if isinstance(typer_ctx.obj, GlobalContext) else None
    return parse_recipe_args(typer_ctx.args, before)


def parse_recipe_args(args: Sequence[str], before: GlobalContext | None = None) -> RecipeConfig:
    """As `parse_recipe_config`, of plain arguments."""
    _, _, ctx = split_unknown_args(args, before, strict=True)
    if ctx.run and ctx.batch:
        raise ConfigError(
            f"options --run {ctx.run} and --batch {ctx.batch}: give one; --run stays until the job has ended, "
            "--batch returns at once"
        )
    if ctx.stage and ctx.profile is None:
        raise ConfigError("option --stage: needs the place to copy to; give the profile with --run or --batch")
    if ctx.stage and ctx.dry_run:
        raise ConfigError("options --stage and --dry-run: give one; --dry-run shows everything and copies nothing")
    if ctx.force_squash and ctx.profile is None:
        raise ConfigError(
            "option --force-squash: makes a cluster's image file anew; give the profile with --run or --batch"
        )
    return RecipeConfig(ctx=ctx, argv=sys.argv[1:], dotlist=ctx.dotlist, passthrough=ctx.passthrough)
