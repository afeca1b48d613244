"""The files for systemd and for containers. No container is run here: nobody can rely on a Docker daemon."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

EXECUTABLE = "/opt/nemotron/.venv/bin/nemotron"
PRINTS_ENVIRONMENT = '#!/bin/sh\nprintenv PREFECT_SERVER_ENCRYPTION_KEY\necho "$@"\n'


@pytest.fixture
def compose(repository: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((repository / "deployments" / "compose.yaml").read_text(encoding="utf-8"))
    return found


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
@pytest.mark.parametrize("name", ["nemotron-server", "nemotron-worker"])
def test_systemd_finds_nothing_wrong_with_a_unit(repository: Path, tmp_path: Path, name: str) -> None:
    text = (repository / "deployments" / "systemd" / f"{name}.service").read_text(encoding="utf-8")
    assert EXECUTABLE in text
    unit = tmp_path / f"{name}.service"
    unit.write_text(text.replace(EXECUTABLE, sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_of_a_unit_is_one_that_there_is(repository: Path) -> None:
    units = repository / "deployments" / "systemd"
    lines = [line for path in sorted(units.iterdir()) for line in path.read_text().splitlines()]
    commands = [line.split()[1:] for line in lines if line.startswith(f"ExecStart={EXECUTABLE}")]
    helps = [subprocess.run([sys.executable, "-m", "nemotron.cli", *words, "--help"]) for words in commands]
    assert [done.returncode for done in helps] == [0, 0]


def test_images_are_pinned_and_secrets_are_files(compose: dict[str, Any]) -> None:
    images = {name: service["image"] for name, service in compose["services"].items()}
    assert images == {"postgres": "postgres:15.18-bookworm", "server": "prefecthq/prefect:3.8.8-python3.11"}
    assert {kind for secret in compose["secrets"].values() for kind in secret} == {"file"}
    asked = {name for service in compose["services"].values() for name in service["secrets"]}
    assert asked == compose["secrets"].keys()


def test_the_server_in_a_container_gets_its_secrets_from_the_files(compose: dict[str, Any], tmp_path: Path) -> None:
    for name in compose["secrets"]:
        (tmp_path / name).write_text(f"content of {name}\n")
    prefect = tmp_path / "prefect"
    prefect.write_text(PRINTS_ENVIRONMENT)
    prefect.chmod(0o755)
    server = compose["services"]["server"]
    script = server["command"][0].replace("$$", "$").replace("/run/secrets", str(tmp_path))
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run([*server["entrypoint"], script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "content of encryption_key\nserver start\n"


def test_the_server_in_a_container_is_told_what_prefect_knows(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import Settings

    for name, value in compose["services"]["server"]["environment"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_PASSWORD", "x")
    server = Settings().server
    assert server.database.connection_url is not None
    assert server.database.connection_url.get_secret_value() == "postgresql+asyncpg://nemotron:x@postgres:5432/prefect"
    assert (server.api.host, server.analytics_enabled) == ("0.0.0.0", False)
