"""Help texts as titled panels, for commands and groups of Typer. Typer's own need twice the time to be imported."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from typer.core import TyperCommand, TyperGroup

MAX_WIDTH = 110
COMMANDS = "Commands"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A titled table; the first cell of a row is what one types."""

    title: str
    rows: Sequence[Sequence[str]]


class PanelCommand(TyperCommand):
    """A command whose help is panels."""

    def get_help_option(self, ctx: Any) -> Any:
        """See `click.Command`."""
        return _without_conversion(super().get_help_option(ctx))

    def panels(self, ctx: Any) -> list[Panel]:
        """What the help shows below the text."""
        arguments = Panel(title="Arguments", rows=_rows(self, ctx, "argument"))
        return [arguments, Panel(title="Options", rows=option_rows(self, ctx))]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """See `click.Command.format_help`."""
        formatter.write(render_help(ctx.get_usage(), self.help or "", self.panels(ctx)))


class PanelGroup(TyperGroup):
    """A group of commands whose help is panels: its commands by their `rich_help_panel`."""

    def get_help_option(self, ctx: Any) -> Any:
        """See `click.Command`."""
        return _without_conversion(super().get_help_option(ctx))

    def panels(self, ctx: Any) -> list[Panel]:
        """What the help shows below the text."""
        by_title: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                title = getattr(command, "rich_help_panel", None)
                by_title.setdefault(title if isinstance(title, str) else COMMANDS, []).append(
                    (name, first_sentence(command.help or ""))
                )
        titles = sorted(by_title, key=lambda title: title == COMMANDS)  # those that have a title of their own first
        commands = [Panel(title=title, rows=by_title[title]) for title in titles]
        return [*commands, Panel(title="Options", rows=option_rows(self, ctx))]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """See `click.Command.format_help`."""
        formatter.write(render_help(ctx.get_usage(), self.help or "", self.panels(ctx)))


def _without_conversion(option: Any) -> Any:
    """The option with a default of its own type: Typer imports pydantic to convert any other, which costs 60 ms."""
    if option is not None:
        option.default = False
    return option


def option_rows(command: TyperCommand | TyperGroup, ctx: Any) -> list[tuple[str, str]]:
    """The command's options, each with its help."""
    return _rows(command, ctx, "option")


def _rows(command: TyperCommand | TyperGroup, ctx: Any, kind: str) -> list[tuple[str, str]]:
    records = (param.get_help_record(ctx) for param in command.get_params(ctx) if param.param_type_name == kind)
    return [(record[0], record[1]) for record in records if record is not None]


def first_sentence(text: str) -> str:
    """The text up to its first full stop or empty line, in one line."""
    paragraph = " ".join(text.strip().split("\n\n", 1)[0].split())
    return paragraph.split(". ", 1)[0].removesuffix(".")


def render_help(usage: str, text: str, panels: Sequence[Panel]) -> str:
    """The whole help text, as wide as the terminal; colours only where it is one."""
    from rich.console import Console
    from rich.panel import Panel as Box
    from rich.table import Table
    from rich.text import Text

    width = min(MAX_WIDTH, shutil.get_terminal_size((MAX_WIDTH, 24)).columns)
    console = Console(
        file=io.StringIO(), width=width, force_terminal=sys.stdout.isatty(), highlight=False, legacy_windows=False
    )
    console.print(Text(usage, style="bold"))
    if text:
        console.print(Text(f"\n{' '.join(text.split())}\n"))
    for panel in panels:
        if not panel.rows:
            continue
        table = Table.grid(padding=(0, 2))
        for position in range(max(map(len, panel.rows))):
            table.add_column(style="cyan" if position == 0 else None, overflow="fold")
        for row in panel.rows:
            table.add_row(*map(Text, row))
        console.print(Box(table, title=panel.title, title_align="left", border_style="dim", expand=True))
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()
