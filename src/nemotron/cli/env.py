"""`nemotron env`: the profiles that say where stages run, in env.toml and in Prefect blocks, and whether they work.

Results go to standard output, notes to standard error.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer

from nemotron.cli.group import new_group

app = new_group("Profiles: where stages run, from env.toml or from Prefect blocks.")


def complete_profile(incomplete: str) -> list[tuple[str, str]]:
    """Names of profiles that begin like this, and what each is."""
    from nemotron.cli.profile_list import list_profiles

    rows = [row for row in list_profiles().rows if not row.shadowed]
    return [(row.name, row.summary) for row in rows if row.name.startswith(incomplete)]


NAME = typer.Argument(..., metavar="NAME", help="The profile", autocompletion=complete_profile)
NAMES = typer.Argument(None, metavar="[NAME]...", help="Profiles; all by default", autocompletion=complete_profile)
ENV_FILE = typer.Option(None, "--env-file", metavar="F", help="Instead of the env.toml in force")
AS_JSON = typer.Option(False, "--json", help="As JSON")


@app.callback()
def _before_all() -> None:
    os.environ.setdefault("DO_NOT_TRACK", "1")  # else Prefect's client tells of its telemetry among our lines


@app.command("list")
def list_(as_json: bool = AS_JSON) -> None:
    """List the profiles: those in Prefect blocks, which come first, and those in env.toml."""
    from dataclasses import asdict

    from nemo_runspec.env_file import load_env_file
    from nemotron.cli.profile_list import list_profiles

    load_env_file()  # says what is wrong with it
    found = list_profiles()
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    if as_json:
        _print_json({"profiles": [asdict(row) for row in found.rows], "notes": found.notes})
    elif found.rows:
        from nemotron.cli.artifact_tables import print_rows

        rows = [(row.name, row.summary, f"{row.origin}{', hidden by the block' * row.shadowed}") for row in found.rows]
        print_rows(("profile", "what it is", "from"), rows)
    else:
        typer.echo('note: no profiles; add a table to env.toml, as [two] with executor = "local"', err=True)


@app.command()
def show(name: str = NAME, as_json: bool = AS_JSON) -> None:
    """Show a profile with all that it extends, and where it is from; secrets are hidden."""
    from nemo_runspec.config.provenance import hide_secrets
    from nemo_runspec.profiles import format_toml, parse_profile, profile_table
    from nemotron.blocks.profile_lookup import locate_profile

    found = locate_profile(name)
    hidden = hide_secrets(profile_table(found.profile))
    if as_json:
        _print_json({"name": name, "origin": found.origin, "profile": hidden})
    else:
        typer.echo(f"# {found.origin}\n{format_toml(name, parse_profile(hidden, origin=found.origin))}", nl=False)


@app.command("import")
def import_(
    names: list[str] = NAMES,
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace blocks that exist"),
    env_file: Path = ENV_FILE,
) -> None:
    """Save profiles of env.toml as Prefect blocks."""
    from nemotron.blocks.env_command import import_profiles, required_api_url

    for line in import_profiles(names or [], required_api_url(), env_file=env_file, overwrite=overwrite):
        typer.echo(line)


@app.command()
def export(
    names: list[str] = NAMES,
    show_secrets: bool = typer.Option(False, "--show-secrets", help="Print values whose names look secret"),
) -> None:
    """Print the profiles in Prefect blocks as an env.toml."""
    from nemotron.blocks.env_command import export_profiles, required_api_url

    typer.echo(export_profiles(names or [], required_api_url(), show_secrets=show_secrets), nl=False)


@app.command()
def check(name: str = NAME, as_json: bool = AS_JSON) -> None:
    """Check whether stages can run with a profile, without submitting anything; exit code 1 if not."""
    from nemotron.blocks.profile_lookup import locate_profile
    from nemotron.cli.check_report import report_checks
    from nemotron.cli.profile_check import check_profile

    found = locate_profile(name)
    typer.echo(f"profile {name} from {found.origin}", err=True)
    report_checks(check_profile(name, found.profile), as_json=as_json, profile=name, origin=found.origin)


def _print_json(document: Any) -> None:
    import json

    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
