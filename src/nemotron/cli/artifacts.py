"""`nemotron artifacts`: what the store has, where it came from, whether it is whole, and what nothing refers to.

Results go to standard output, notes to standard error. Nothing here changes the store but `gc --delete`, and `sync`,
which notes what was sent.
"""

from __future__ import annotations

import sys
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
    None, "--store", metavar="PATH|URL", help="The store; else $NEMOTRON_STORE, else that of the project"
)
AS_JSON = typer.Option(False, "--json", help="As JSON")


@app.command("list")
def list_(
    name: str = typer.Argument(None, metavar="[NAME]", help="List its versions", autocompletion=complete_artifact),
    type_: str = typer.Option(None, "--type", metavar="TYPE", help="Only of this type, as ModelArtifact"),
    as_json: bool = AS_JSON,
    store: str = STORE,
) -> None:
    """List the artifacts, or the versions of one."""
    opened = _open_store(store)
    if name is None:
        _list_names(opened, type_, as_json=as_json)
    else:
        _list_versions(opened, name, type_, as_json=as_json)


@app.command()
def show(reference: str = REF, as_json: bool = AS_JSON, store: str = STORE) -> None:
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
    format_: Literal["text", "json", "svg", "png"] = typer.Option(
        None, "--format", help="A tree of text, JSON, or a picture; by default as the file's suffix says, else text"
    ),
    as_json: bool = typer.Option(False, "--json", help="As --format json"),
    output: Path = typer.Option(None, "-o", "--output", metavar="FILE", help="Write it there; a PNG needs that or >"),
    store: str = STORE,
) -> None:
    """Show or draw what a version was made from, down to the source files."""
    from nemo_runspec.errors import ConfigError
    from nemotron.cli.lineage_formats import choose_format, render_lineage, write_output

    if as_json and format_ not in (None, "json"):
        raise ConfigError(f"--json and --format {format_}: give one of them")
    chosen = choose_format("json" if as_json else format_, output)
    if chosen == "png" and output is None and sys.stdout.isatty():
        raise ConfigError("--format png: a picture is nothing for a terminal; give -o FILE, or send it to one with >")
    opened = _open_store(store)
    content = render_lineage(opened, opened.resolve(reference), chosen, down=down)
    if output is None:
        typer.echo(content, nl=False)
    else:
        write_output(output, content)


@app.command()
def verify(
    references: list[str] = REFS,
    level: Literal["full", "sampled", "stat"] = typer.Option(
        "full", "--level", help="Compare contents, parts of them where only parts were digested, or sizes only"
    ),
    store: str = STORE,
) -> None:
    """Compare the files with what was published; exit code 1 if any differs."""
    from nemotron.cli.artifact_checks import check_all, find_references

    opened = _open_store(store)
    wanted = find_references(opened, references or [])
    if not wanted:
        _note_empty(opened)
    if check_all(opened, wanted, level=level, say=typer.echo):
        raise typer.Exit(1)


@app.command("sync")
def sync_(
    references: list[str] = REFS,
    dry_run: bool = typer.Option(False, "--dry-run", help="Only show what waits; asks no server"),
    timeout_s: float = typer.Option(120.0, "--timeout-s", min=1, help="Seconds that one version may take"),
    as_json: bool = AS_JSON,
    store: str = STORE,
) -> None:
    """Send to W&B what waits for it, with its inputs and metrics; exit code 1 if anything cannot be sent."""
    from nemotron.cli import artifact_sync

    opened = _open_store(store)
    wanted = artifact_sync.find_wanted(opened, references or [])
    servers = artifact_sync.servers(opened, wanted, of_project=store is None)
    if not servers:
        _note(f"nothing in {opened.location} is meant for W&B; set project in [wandb] of env.toml")
    say = _say_nothing if as_json else typer.echo
    if dry_run:
        documents = [artifact_sync.show_waiting(opened, server, wanted, say=say) for server in servers]
        all_there = True
    else:
        sent = [artifact_sync.send(opened, server, wanted, timeout_s=timeout_s, say=say) for server in servers]
        documents, all_there = [document for document, _ in sent], all(there for _, there in sent)
    if as_json:
        _print_json({"store": opened.location, "servers": documents})
    if not all_there:
        raise typer.Exit(1)


@app.command()
def gc(
    delete: bool = typer.Option(False, "--delete", help="Delete it; else it is only shown"),
    wait_s: float = typer.Option(60.0, "--wait-s", min=0, help="Seconds to wait for those who publish"),
    grace_s: float = typer.Option(3600.0, "--grace-s", min=0, help="Leave alone what is younger, in seconds"),
    store: str = STORE,
) -> None:
    """Show or delete what no version refers to: contents, checkouts, and what killed processes left."""
    from nemo_runspec.artifacts.gc import collect_garbage, find_garbage, linked_parts

    opened = _open_store(store)
    for part in linked_parts(opened):
        _note(f"{part} is a symbolic link; nothing is looked for there")
    if delete:
        garbage = collect_garbage(opened, wait_s=wait_s, grace_s=grace_s)
    else:
        garbage = find_garbage(opened, grace_s=grace_s)
    _print_garbage(garbage, opened, grace_s=grace_s, deleted=delete)


@app.command()
def doctor(as_json: bool = AS_JSON, store: str = STORE) -> None:
    """Try out whether the place is fit for a store; exit code 1 if it is not."""
    from nemotron.cli.artifact_doctor import check_store_place
    from nemotron.cli.check_report import report_checks

    location = find_store(store)
    report_checks(check_store_place(location), as_json=as_json, store=location)


def _print_garbage(garbage: list[Garbage], store: ArtifactStore, *, grace_s: float, deleted: bool) -> None:
    from nemotron.cli.artifact_tables import format_bytes

    for item in garbage:
        typer.echo(f"{item.kind:<8}  {format_bytes(item.num_bytes):>12}  {item.key}")
    total = format_bytes(sum(item.num_bytes for item in garbage))
    if not garbage:
        typer.echo(f"no garbage in {store.location} that is older than {grace_s:g} s")
    elif deleted:
        typer.echo(f"deleted {len(garbage):,}, {total} freed")
    else:
        typer.echo(f"{len(garbage):,} to delete, {total} to free")
        _note("nothing was deleted; --delete does it")
        if publishers := store.backend.writers():
            _note(f"what {', '.join(publishers)} publishes now may be among it; --delete waits for that and keeps it")


def _list_names(store: ArtifactStore, type_: str | None, *, as_json: bool) -> None:
    from nemotron.cli import artifact_facts, artifact_tables

    found = artifact_facts.load_names(store, report=_note)
    if not store.names():
        _note_empty(store)
    elif type_ is not None:
        _check_type(type_, {facts.newest.type for facts in found}, f"in {store.location}")
    found = [facts for facts in found if type_ in (None, facts.newest.type)]
    if as_json:
        _print_json({"store": store.location, "artifacts": [facts.document() for facts in found]})
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
        _print_json({"store": store.location, "name": name, "versions": [asdict(facts) for facts in found]})
    elif found:
        rows = [artifact_tables.version_row(facts) for facts in found]
        artifact_tables.print_rows(artifact_tables.VERSION_COLUMNS, rows)


def _check_type(wanted: str, types: set[str], where: str) -> None:
    from nemo_runspec.errors import ArtifactError, did_you_mean

    if wanted not in types:
        have = ", ".join(sorted(types)) or "none"
        raise ArtifactError(f"--type {wanted!r}: none {where}; have: {have}.{did_you_mean(wanted, types)}")


def _open_store(option: str | None) -> ArtifactStore:
    from nemo_runspec.artifacts import ArtifactStore

    return ArtifactStore(find_store(option))


def _note_empty(store: ArtifactStore) -> None:
    _note(f"no artifacts in {store.location}; run nemotron nano3 pipe, which makes some, or name another with --store")


def _say_nothing(line: str) -> None:
    del line


def _note(text: object) -> None:
    typer.echo(f"note: {text}", err=True)


def _print_json(document: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(document, indent=1))
