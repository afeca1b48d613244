"""What the command's groups have in common. Imports nothing heavy: `nemotron --help` loads all groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from nemo_runspec.help_panels import PanelCommand, PanelGroup

CONTEXT = {"help_option_names": ["-h", "--help"]}


class CommandGroup(typer.Typer):
    """A Typer app whose help texts are panels."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[..., Any]:
        """As `typer.Typer.command`."""
        return super().command(name, **{"cls": PanelCommand, "context_settings": CONTEXT, **settings})


def new_group(about: str) -> typer.Typer:
    """A group of commands that shows its help when it is called without one."""
    return CommandGroup(
        help=about,
        cls=PanelGroup,
        no_args_is_help=True,
        rich_markup_mode=None,
        add_completion=False,
        context_settings=CONTEXT,
    )
