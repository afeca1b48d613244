"""`nemotron artifacts`: what the store has, where it came from, whether it is whole, and what nothing refers to.

Results go to standard output, notes to standard error. Nothing here but `gc --delete` changes the store.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from nemotron.cli.completion import complete_artifact
from nemotron.cli.group import new_group
from nemotron.cli.store_root import find_store

if TYPE_CHECKING:
    from nemo_runspec.artifacts import ArtifactStore
    from nemo_runspec.artifacts.gc import Garbage

app = new_group("Artifacts: data sets and models by name and version, and where they came from.")

REF = typer.Argument(
    ..., metavar="REF", help="NAME, NAME:vN, NAME:ALIAS or NAME:latest", autocompletion=complete_artifact
)
REFS = typer.Argument(
    None, metavar="[REF]...", help="Versions; all there are by default", autocompletion=complete_artifact
)
STORE = typer.Option(
    None, "--store", metavar="PATH", help="The store; else $NEMOTRON_STORE, else .nemotron/artifacts of the project"
)
AS_JSON = typer.Option(False, "--json", help="As JSON")


@app.command("list")
def list_(
    name: str = typer.Argument(None, metavar="[NAME]", help="List its versions", autocompletion=complete_artifact),
    type_: str = typer.Option(None, "--type", metavar="TYPE", help="Only of this type, as ModelArtifact"),
    as_json: bool = AS_JSON,
    store: Path = STORE,
) -> None:
    """List the artifacts, or the versions of one."""
    opened = _open_store(store)
    if name is None:
        _list_names(opened, type_, as_json=as_json)
    else:
        _list_versions(opened, name, type_, as_json=as_json)


@app.command()
def show(reference: str = REF, as_json: bool = AS_JSON, store: Path = STORE) -> None:
    """Show all that is known of a version: who made it from what, its metadata and its files."""
    from nemotron.cli import artifact_facts, artifact_tables

    opened = _open_store(store)
    document = artifact_facts.version_document(opened, opened.resolve(reference))
    if as_json:
        _print_json(document)
        return
    for line in artifact_tables.version_lines(document):
        typer.echo(line)
    artifact_tables.print_rows(artifact_tables.FILE_COLUMNS, artifact_tables.file_rows(document["files"]))
    if (more := len(document["files"]) - artifact_tables.MAX_FILES) > 0:
        _note(f"{more:,} more files; --json shows all")


@app.command()
def lineage(
    reference: str = REF,
    down: bool = typer.Option(False, "--down", help="What was made from it, instead of what it was made from"),
    as_json: bool = AS_JSON,
    store: Path = STORE,
) -> None:
    """Show what a version was made from, down to the source files."""
    from nemo_runspec.artifacts import lineage_text
    from nemo_runspec.artifacts.descendants import descendants_text, find_descendants
    from nemotron.cli.artifact_facts import lineage_document

    opened = _open_store(store)
    ref = opened.resolve(reference)
    if as_json:
        edges = find_descendants(opened, ref) if down else opened.lineage(ref)
        _print_json(lineage_document(opened, ref, edges, sources=not down))
    else:
        typer.echo(descendants_text(opened, ref) if down else lineage_text(opened, ref))


@app.command()
def verify(
    references: list[str] = REFS,
    level: Literal["full", "stat"] = typer.Option("full", "--level", help="Compare contents, or sizes only"),
    store: Path = STORE,
) -> None:
    """Compare the files with what was published; exit code 1 if any differs."""
    from nemotron.cli.artifact_checks import check_all, find_references

    opened = _open_store(store)
    wanted = find_references(opened, references or [])
    if not wanted:
        _note_empty(opened)
    if check_all(opened, wanted, level=level, say=typer.echo):
        raise typer.Exit(1)


@app.command()
def gc(
    delete: bool = typer.Option(False, "--delete", help="Delete it; else it is only shown"),
    wait_s: float = typer.Option(60.0, "--wait-s", min=0, help="Seconds to wait for those who publish"),
    store: Path = STORE,
) -> None:
    """Show or delete what no version refers to: contents, checkouts, and what killed processes left."""
    from nemo_runspec.artifacts.gc import collect_garbage, find_garbage, linked_parts

    opened = _open_store(store)
    for part in linked_parts(opened):
        _note(f"{part} is a symbolic link; nothing is looked for there")
    garbage = collect_garbage(opened, wait_s=wait_s) if delete else find_garbage(opened)
    _print_garbage(garbage, opened, deleted=delete)


def _print_garbage(garbage: list[Garbage], store: ArtifactStore, *, deleted: bool) -> None:
    from nemo_runspec.artifacts.gc_lock import list_publishers
    from nemotron.cli.artifact_tables import format_bytes

    for item in garbage:
        typer.echo(f"{item.kind:<8}  {format_bytes(item.num_bytes):>12}  {item.path.relative_to(store.root)}")
    total = format_bytes(sum(item.num_bytes for item in garbage))
    if not garbage:
        typer.echo(f"no garbage in {store.root}")
    elif deleted:
        typer.echo(f"deleted {len(garbage):,}, {total} freed")
    else:
        typer.echo(f"{len(garbage):,} to delete, {total} to free")
        _note("nothing was deleted; --delete does it")
        if publishers := list_publishers(store.root):
            _note(f"what {', '.join(publishers)} publishes now may be among it; --delete waits for that and keeps it")


def _list_names(store: ArtifactStore, type_: str | None, *, as_json: bool) -> None:
    from nemotron.cli import artifact_facts, artifact_tables

    found = artifact_facts.load_names(store, report=_note)
    if not store.names():
        _note_empty(store)
    elif type_ is not None:
        _check_type(type_, {facts.newest.type for facts in found}, f"in {store.root}")
    found = [facts for facts in found if type_ in (None, facts.newest.type)]
    if as_json:
        _print_json({"store": str(store.root), "artifacts": [facts.document() for facts in found]})
    elif found:
        artifact_tables.print_rows(artifact_tables.NAME_COLUMNS, [artifact_tables.name_row(facts) for facts in found])


def _list_versions(store: ArtifactStore, name: str, type_: str | None, *, as_json: bool) -> None:
    from dataclasses import asdict

    from nemo_runspec.artifacts.refs import check_name
    from nemotron.cli import artifact_facts, artifact_tables

    check_name(name)
    if not store.version_names(name):
        store.resolve(name)  # says what there is
    found = artifact_facts.load_versions(store, name, report=_note)
    if type_ is not None:
        _check_type(type_, {facts.type for facts in found}, f"among the versions of {name}")
    found = [facts for facts in found if type_ in (None, facts.type)]
    if as_json:
        _print_json({"store": str(store.root), "name": name, "versions": [asdict(facts) for facts in found]})
    elif found:
        rows = [artifact_tables.version_row(facts) for facts in found]
        artifact_tables.print_rows(artifact_tables.VERSION_COLUMNS, rows)


def _check_type(wanted: str, types: set[str], where: str) -> None:
    from nemo_runspec.errors import ArtifactError, did_you_mean

    if wanted not in types:
        have = ", ".join(sorted(types)) or "none"
        raise ArtifactError(f"--type {wanted!r}: none {where}; have: {have}.{did_you_mean(wanted, types)}")


def _open_store(option: Path | None) -> ArtifactStore:
    from nemo_runspec.artifacts import ArtifactStore

    return ArtifactStore(find_store(option))


def _note_empty(store: ArtifactStore) -> None:
    _note(f"no artifacts in {store.root}; run nemotron nano3 pipe, which makes some, or name another with --store")


def _note(text: object) -> None:
    typer.echo(f"note: {text}", err=True)


def _print_json(document: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(document, indent=1))
