"""`nemotron server`: a Prefect server with PostgreSQL for a team."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from nemotron.cli.group import new_group

ABOUT = "A Prefect server with PostgreSQL for a team: start it, ask for it, save it."
app = new_group(ABOUT)
DIR = typer.Option(None, "--dir", help="Where it is; by default .nemotron/server of this project")


@app.command()
def up(
    folder: Path = DIR,
    host: str = typer.Option(None, "--host", help="Address to listen on; 127.0.0.1 at first, 0.0.0.0 for all"),
    port: int = typer.Option(None, "--port", help="Port to listen on; 4200 at first, 0 for any free one"),
    public_url: str = typer.Option(None, "--public-url", help="How others reach it, as https://prefect.lab.example"),
    database_url: str = typer.Option(
        "", "--database-url", envvar="NEMOTRON_DATABASE_URL", help="A PostgreSQL elsewhere instead of its own"
    ),
    timeout_s: float = typer.Option(180.0, "--timeout-s", min=1, help="Seconds to wait until it answers"),
    foreground: bool = typer.Option(False, "--foreground", help="Stay, and print its logs; for systemd"),
) -> None:
    """Start the server unless it runs, and wait until it answers. It goes on in the background."""
    from nemotron.deployments.server import bring_up, check_prefect
    from nemotron.deployments.server_settings import AskedSettings

    asked = AskedSettings(host=host, port=port, public_url=public_url)
    if foreground:
        from nemotron.deployments.background import log_to_stderr
        from nemotron.deployments.server_process import run_server

        check_prefect()
        log_to_stderr()
        run_server(server_folder(folder), asked, database_url=database_url, to_files=False)
        return
    settings = bring_up(server_folder(folder), asked, database_url=database_url, timeout_s=timeout_s)
    option = f" --dir {folder}" if folder else ""
    typer.echo(f"server up     {settings.url}")
    typer.echo(f'your shell    eval "$(nemotron server env{option})"')
    typer.echo("a worker      nemotron worker --detach")
    typer.echo(f"its state     nemotron server status{option}; logs, backup, down")


@app.command()
def down(folder: Path = DIR) -> None:
    """Stop the server. Its data stay; runs and jobs go on."""
    from nemotron.deployments.server import take_down

    typer.echo("stopped" if take_down(server_folder(folder)) else "it does not run")


@app.command()
def status(folder: Path = DIR, as_json: bool = typer.Option(False, "--json", help="As JSON")) -> None:
    """Show how the server stands; exit code 1 unless it answers."""
    import json
    from dataclasses import asdict

    from nemotron.deployments.server import server_state

    state = server_state(server_folder(folder))
    if as_json:
        typer.echo(json.dumps(asdict(state) | {"url": state.settings.url if state.settings else None}, indent=1))
    else:
        said = "answers" if state.answers else "does not answer" if state.programs else "is down"
        typer.echo(f"{state.settings.url if state.settings else 'the server'} {said}")
        for line in program_lines(state.programs):
            typer.echo(line)
    if not state.answers:
        raise typer.Exit(1)


@app.command()
def logs(
    folder: Path = DIR,
    number: int = typer.Option(20, "-n", "--number", min=1, help="How many lines of each log"),
) -> None:
    """Print the last lines of the logs of the server and its database."""
    from nemotron.deployments.server import last_lines

    typer.echo(last_lines(server_folder(folder), number=number) or "no logs")


@app.command()
def env(folder: Path = DIR) -> None:
    """Print shell lines that point a shell at the server: eval "$(nemotron server env)"."""
    from nemotron.deployments.server import client_environment, export_lines

    typer.echo(export_lines(client_environment(server_folder(folder))), nl=False)


@app.command()
def backup(file: Path = typer.Argument(..., metavar="FILE", help="A new file"), folder: Path = DIR) -> None:
    """Save the database to a file. The secrets are not in it: keep a copy of secrets.env elsewhere."""
    from nemotron.deployments.backup import save_backup

    for line in save_backup(server_folder(folder), file):
        typer.echo(line)


@app.command()
def restore(
    file: Path = typer.Argument(..., metavar="FILE", help="What backup wrote"),
    folder: Path = DIR,
    replace: bool = typer.Option(False, "--replace", help="Also if the database is not empty: all in it is lost"),
) -> None:
    """Fill the database of a server that is down from a backup, all or nothing."""
    from nemotron.deployments.backup import restore_backup

    typer.echo(restore_backup(server_folder(folder), file, replace=replace))


@app.command("rotate-auth")
def rotate_auth(folder: Path = DIR) -> None:
    """Give a server that is down a new user and password; clients need them then."""
    from nemotron.deployments.key_rotation import change_auth

    change_auth(server_folder(folder))
    typer.echo("changed; nemotron server up, then nemotron server env for every client and worker")


@app.command("rotate-key")
def rotate_key(folder: Path = DIR) -> None:
    """Give a server that is down a new encryption key, and encrypt its blocks anew."""
    from nemotron.deployments.key_rotation import change_key

    typer.echo(change_key(server_folder(folder)))


def server_folder(folder: Path | None) -> Path:
    """The directory that is meant."""
    from nemo_runspec.project import find_project

    return folder.absolute() if folder else find_project() / ".nemotron" / "server"


def program_lines(programs: list[dict[str, Any]]) -> list[str]:
    """A line for each program that a supervisor keeps alive."""
    lines = []
    for program in programs:
        pid = f"pid {program['pid']}" if program["pid"] else "not running"
        ended = "" if program["last_exit"] is None else f", ended last with {program['last_exit']}"
        lines.append(f"    {program['name']:10} {pid:14} started {program['starts']} times{ended}")
    return lines
