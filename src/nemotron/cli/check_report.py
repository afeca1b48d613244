"""Shows checks: one line each with a mark, or JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from nemo_runspec.checks import Check

NO_TERMINAL_WIDTH = 160
MARKS = {"ok": "✓", "warning": "!", "failed": "✗", "unknown": "–"}
ASCII_MARKS = {"ok": "ok", "warning": "!", "failed": "FAILED", "unknown": "-"}
_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "unknown": "dim"}


def report_checks(checks: Iterable[Check], *, as_json: bool, **more: Any) -> None:
    """Print the checks as they come, or all as JSON with `more`; raise `typer.Exit(1)` if one of them failed."""
    if as_json:
        import json
        from dataclasses import asdict

        found: Sequence[Check] = list(checks)
        content = {**more, "ok": not _has_failed(found), "checks": [asdict(check) for check in found]}
        typer.echo(json.dumps(content, indent=2))
    else:
        found = _print_checks(checks)
    if _has_failed(found):
        raise typer.Exit(1)


def can_print(text: str) -> bool:
    """Whether standard output's encoding has these characters."""
    import sys

    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _has_failed(checks: Iterable[Check]) -> bool:
    return any(check.outcome == "failed" for check in checks)


def _print_checks(checks: Iterable[Check]) -> list[Check]:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    marks = MARKS if can_print("".join(MARKS.values())) else ASCII_MARKS
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = NO_TERMINAL_WIDTH
    found: list[Check] = []
    for check in checks:
        found.append(check)
        line = Table.grid(padding=(0, 1))
        line.add_column(width=max(map(len, marks.values())))
        line.add_column(width=18, overflow="fold")
        line.add_column(overflow="fold")
        mark = Text(marks[check.outcome], style=_COLOURS[check.outcome])
        arrow = "→" if marks is MARKS else "->"
        said = f"{check.said}\n{arrow} {check.advice}" if check.advice else check.said
        line.add_row(mark, Text(_printable(check.name)), Text(_printable(said)))
        console.print(line)
    return found


def _printable(text: str) -> str:
    return text if can_print(text) else text.encode("ascii", "replace").decode()
