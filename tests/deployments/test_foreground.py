"""A server as systemd runs it, with a database that is not its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from team_server import TeamServer, clean_environment, connect, wait_until

from nemotron.deployments.backup import run_tool
from nemotron.deployments.database import find_database
from nemotron.deployments.secrets_file import load_secrets
from nemotron.deployments.server import server_state

pytestmark = pytest.mark.slow


@pytest.fixture
def database_url(team: TeamServer) -> str:
    """An empty database of the session's server."""
    secrets = load_secrets(team.dir)
    assert secrets is not None
    database = find_database(team.dir, secrets)
    run_tool(database, "psql", "-X", "-d", database.url, "-c", "CREATE DATABASE other")
    return database.async_url.replace("+asyncpg", "").replace("/prefect?", "/other?")


@pytest.fixture
def foreground(database_url: str, team_folder: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    folder = team_folder / "foreground"
    command = [sys.executable, "-m", "nemotron.cli", "server", "up", "--foreground", "--port", "0"]
    env = clean_environment() | {"NEMOTRON_DATABASE_URL": database_url}
    with (team_folder / "printed").open("wb") as printed:
        process = subprocess.Popen([*command, "--dir", str(folder)], env=env, stderr=printed)
    try:
        wait_until(lambda: server_state(folder).answers, timeout_s=120)
        yield folder, process
    finally:
        process.terminate()
        process.wait()


def test_it_works_on_a_database_elsewhere_prints_its_logs_and_ends_at_sigterm(
    foreground: tuple[Path, subprocess.Popen[bytes]], team: TeamServer
) -> None:
    folder, process = foreground
    other = connect(folder)
    assert other.ask("flows/", {"name": "only-there"})["name"] == "only-there"
    assert "only-there" not in [flow["name"] for flow in team.ask("flows/filter", {})]
    assert not (folder / "postgres").exists()
    assert not (folder / "logs").exists()
    server = other.pid("server")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    assert not Path(f"/proc/{server}/exe").exists()
    assert "server: started, pid " in (folder.parent / "printed").read_text()
