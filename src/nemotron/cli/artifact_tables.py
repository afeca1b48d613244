"""How artifacts are shown to a person: tables that fit the terminal, and blocks of lines where they do not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import typer

from nemotron.cli.artifact_facts import NameFacts, VersionFacts

NO_TERMINAL_WIDTH = 160
MAX_FILES = 20
MAX_KEY_METADATA = 3
KEY_METADATA = ("heldout_after", "valid_loss", "final_loss", "total_tokens", "total_sequences", "step")
NAME_COLUMNS = ("newest", "type", "versions", "aliases", "made by", "created (UTC)", "size")
VERSION_COLUMNS = ("version", "type", "aliases", "key metadata", "made by", "created (UTC)", "size")
FILE_COLUMNS = ("file", "size", "digest")


def name_row(facts: NameFacts) -> tuple[str, ...]:
    """The cells of a name in `list`."""
    newest = facts.newest
    aliases = ", ".join(f"{alias}={version}" for alias, version in facts.aliases.items())
    reference = f"{newest.name}:{newest.version}"
    return (reference, newest.type, str(facts.num_versions), aliases, *_origin_cells(newest))


def version_row(facts: VersionFacts) -> tuple[str, ...]:
    """The cells of a version in `list NAME`."""
    return (facts.version, facts.type, ", ".join(facts.aliases), key_metadata(facts.metadata), *_origin_cells(facts))


def _origin_cells(facts: VersionFacts) -> tuple[str, str, str]:
    created = facts.created[:16].replace("T", " ")
    return (
        f"{facts.stage}, {facts.run_id}",
        created,
        "?" if facts.num_bytes is None else format_bytes(facts.num_bytes),
    )


def key_metadata(metadata: dict[str, Any]) -> str:
    """The few numbers that say most, e.g. `valid_loss 3.215, step 60`."""
    known = [(name, metadata[name]) for name in KEY_METADATA if isinstance(metadata.get(name), int | float)]
    return ", ".join(f"{name} {_format_number(value)}" for name, value in known[:MAX_KEY_METADATA])


def _format_number(value: float) -> str:
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"


def format_bytes(num_bytes: int) -> str:
    """`999 bytes`, `1.2 MB`; 1 MB is 10⁶ bytes."""
    from rich.filesize import decimal

    return decimal(num_bytes)


def format_count(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def version_lines(document: dict[str, Any]) -> list[str]:
    """What `show` says before the files, from its JSON."""
    inputs = ", ".join(document["inputs"]) or "none"
    facts = {
        "artifact": f"{document['name']}:{document['version']}",
        "type": document["type"],
        "aliases": ", ".join(document["aliases"]) or "none",
        "digest": document["digest"],
        "policy": {"copy": "copy, the store has the contents", "reference": "reference, the files stay where they are"}[
            document["policy"]
        ],
        "made by": f"{document['stage']}, run {document['run_id']}, on {document['host']}, {document['created']}",
        "fingerprint": document["fingerprint"] or "none",
        "inputs": inputs,
        "files": f"{document['num_files']:,}, {format_bytes(document['num_bytes'])}",
        "directory": document["directory"] or "none yet: it is made when a stage first reads them",
        **({"on W&B": document["wandb"]} if document["wandb"] else {}),
    }
    metadata = [f"    {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in document["metadata"].items()]
    heading = ["metadata"] if metadata else []
    return [*(f"{key:<12} {value}" for key, value in facts.items()), *heading, *metadata]


def file_rows(files: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The cells of the first files of `show`."""
    return [(file["path"], format_bytes(file["num_bytes"]), _short(file["digest"])) for file in files[:MAX_FILES]]


def _short(digest: str) -> str:
    """The algorithm and the first twelve digits."""
    algorithm, _, hexadecimal = digest.partition(":")
    return f"{algorithm}:{hexadecimal[:12]}"


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output, or where that is too narrow, a block of lines for each row."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = NO_TERMINAL_WIDTH
    if table_width(columns, rows) > console.width:
        typer.echo("\n".join(line for row in rows for line in block_lines(columns, row, width=console.width)))
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def table_width(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Characters that the table needs if no cell is broken."""
    from rich.cells import cell_len

    return 1 + sum(3 + max(cell_len(row[index]) for row in (columns, *rows)) for index in range(len(columns)))


def block_lines(columns: Sequence[str], row: Sequence[str], *, width: int) -> list[str]:
    """The first cell, and below it the others, as many to a line as fit."""
    lines = [row[0]]
    current = ""
    for part in (f"{column}: {cell}" for column, cell in zip(columns[1:], row[1:], strict=True) if cell):
        joined = f"{current}   {part}" if current else f"    {part}"
        if current and len(joined) > width:
            lines.append(current)
            joined = f"    {part}"
        current = joined
    return [*lines, current] if current else lines
