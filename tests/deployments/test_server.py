"""`nemotron server up` and what it starts."""

import json
import os
import signal
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from team_server import TeamServer, nemotron, wait_until

from nemotron.deployments.background import owner


def site(team: TeamServer) -> str:
    return team.api_url.removesuffix("/api")


def test_the_api_refuses_whoever_does_not_know_the_password(team: TeamServer) -> None:
    with pytest.raises(HTTPError, match="401"):
        urlopen(f"{team.api_url}/admin/version")
    assert team.ask("admin/version") == "3.8.8"


def test_the_ui_is_served_and_finds_the_api_at_whatever_address_it_was_loaded_from(team: TeamServer) -> None:
    with urlopen(f"{site(team)}/") as page:
        assert "<title>Prefect" in page.read().decode()
    with urlopen(f"{site(team)}/ui-settings") as page:
        settings = json.load(page)
    assert (settings["api_url"], settings["auth"]) == ("/api", "BASIC")


def test_a_browser_is_told_to_ask_nobody_but_the_server(team: TeamServer) -> None:
    with urlopen(f"{site(team)}/") as page:
        assert page.headers["content-security-policy"] == "connect-src 'self'"


def test_it_is_on_postgres_tells_nobody_and_its_secrets_are_for_its_user_alone(team: TeamServer) -> None:
    settings = team.ask("admin/settings")["server"]
    assert settings["analytics_enabled"] is False
    assert (team.dir / "postgres" / "data" / "PG_VERSION").exists()
    assert (team.dir / "secrets.env").stat().st_mode & 0o777 == 0o600


def test_up_twice_is_one_server(team: TeamServer) -> None:
    before = (owner(team.dir), team.pid("postgres"), team.pid("server"))
    done = team.nemotron("up")
    assert done.returncode == 0, done.stderr
    assert site(team) in done.stdout
    assert (owner(team.dir), team.pid("postgres"), team.pid("server")) == before


def test_up_with_another_port_than_that_of_the_running_server_is_refused(team: TeamServer) -> None:
    done = team.nemotron("up", "--port", "1234")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --port 1234: the server of {team.dir} runs already, with ")


def test_env_points_a_shell_at_it(team: TeamServer) -> None:
    lines = team.nemotron("env").stdout.splitlines()
    assert lines == [f"export PREFECT_API_URL={team.api_url}", f"export PREFECT_API_AUTH_STRING={team.auth}"]


def test_status_tells_how_it_stands(team: TeamServer) -> None:
    wait_until(lambda: team.nemotron("status").returncode == 0)  # a busy server is given 2 s
    done = team.nemotron("status")
    assert done.returncode == 0
    assert done.stdout.startswith(f"{site(team)} answers\n")
    assert f"pid {team.pid('postgres')}" in done.stdout


def test_a_killed_postgres_comes_back_and_the_server_answers_again(team: TeamServer) -> None:
    killed = team.pid("postgres")
    team.kill("postgres")
    wait_until(lambda: team.pid("postgres") not in (0, killed))
    wait_until(lambda: answers(team))
    assert team.ask("flow_runs/filter", {}) is not None


def answers(team: TeamServer) -> bool:
    """Whether it does; 503 means later, any other code that a client of Prefect would give up."""
    try:
        team.ask("flows/count", {})
    except HTTPError as error:
        if error.code != 503:
            raise
        return False
    return True


def test_a_request_waits_while_a_killed_server_comes_back(team: TeamServer) -> None:
    killed = team.pid("server")
    team.kill("server")
    assert team.ask("admin/version") == "3.8.8"
    assert team.pid("server") != killed


@pytest.mark.skipif(os.getuid() != 0, reason="only as root is PostgreSQL another user's")
def test_a_directory_that_postgres_may_not_enter_is_refused_in_a_line(team_folder: Path) -> None:
    closed = team_folder / "closed"
    closed.mkdir(mode=0o700)
    done = nemotron("server", "up", "--dir", str(closed / "server"))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert f"user 'postgres' may not enter {closed}; give --dir another place" in done.stderr


def test_a_port_that_is_taken_is_told_and_nothing_is_left_running(team: TeamServer, team_folder: Path) -> None:
    folder = team_folder / "other"
    port = team.api_url.split(":")[2].removesuffix("/api")
    done = nemotron("server", "up", "--dir", str(folder), "--port", port)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in done.stderr
    assert owner(folder) is None


def test_secrets_that_are_lost_are_asked_for_not_made_anew(team_folder: Path) -> None:
    folder = team_folder / "lost"
    (folder / "postgres" / "data").mkdir(parents=True)
    done = nemotron("server", "up", "--dir", str(folder))
    assert done.returncode == 2
    assert f"error: {folder / 'secrets.env'} is missing" in done.stderr
    assert not (folder / "secrets.env").exists()


def test_a_killed_supervisor_takes_all_with_it_and_up_starts_again(team: TeamServer) -> None:
    found = owner(team.dir)
    assert found is not None
    before = [team.pid("postgres"), team.pid("server")]
    os.kill(found.pid, signal.SIGKILL)
    wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in before))
    done = team.nemotron("up")
    assert done.returncode == 0, done.stderr
    assert team.ask("admin/version") == "3.8.8"
