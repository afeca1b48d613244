"""Backup, restore, and new keys: one server's database becomes that of another."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flow_runs import deploy, start
from team_server import TeamServer, nemotron, team_server

from nemotron.deployments.background import owner
from nemotron.deployments.postgres_programs import find_programs
from nemotron.deployments.secrets_file import ServerSecrets, load_secrets

CANARY = "canary-in-a-secret-block"
POOL = "backup-pool"


@pytest.fixture(scope="module")
def run_id(team: TeamServer) -> str:
    """A run of a deployment on the server, beside a secret block."""
    team.ask("work_pools/", {"name": POOL, "type": "process"})
    block_type = team.ask("block_types/slug/secret")["id"]
    by_type = {"block_schemas": {"block_type_id": {"any_": [block_type]}}}
    schema = team.ask("block_schemas/filter", by_type)[0]["id"]
    block = {"name": "canary", "block_type_id": block_type, "block_schema_id": schema, "data": {"value": CANARY}}
    team.ask("block_documents/", block)
    return start(team, deploy(team, "note", pool=POOL), {"path": "/nowhere"})


@pytest.fixture(scope="module")
def backup(team: TeamServer, run_id: str, team_folder: Path) -> Path:  # noqa: ARG001
    """A backup of the running server."""
    file = team_folder / "backup"
    done = team.nemotron("backup", str(file))
    assert done.returncode == 0, done.stderr
    return file


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What another server said, from the backup and the first one's secrets, which then got new ones; it is down."""

    folder: Path
    secrets: ServerSecrets
    auth: str
    block: dict[str, Any]
    deployment: dict[str, Any]
    run: dict[str, Any]
    left: list[str]


@pytest.fixture(scope="module")
def restored(team: TeamServer, backup: Path, run_id: str, team_folder: Path) -> Restored:
    folder = team_folder / "restored"
    folder.mkdir()
    shutil.copy(team.dir / "secrets.env", folder)
    succeed("restore", str(backup), folder=folder)
    succeed("rotate-key", folder=folder)
    succeed("rotate-auth", folder=folder)
    with team_server(folder) as server:
        facts = {
            "auth": server.auth,
            "block": server.ask("block_types/slug/secret/block_documents/name/canary?include_secrets=true"),
            "deployment": server.ask("deployments/name/note/test"),
            "run": server.ask(f"flow_runs/{run_id}"),
        }
        succeed("down", folder=folder)
    return Restored(folder=folder, secrets=secrets_of(folder), left=processes_of(folder), **facts)


def succeed(*words: str, folder: Path) -> str:
    done = nemotron("server", *words, "--dir", str(folder))
    assert done.returncode == 0, done.stderr
    return done.stdout


def secrets_of(folder: Path) -> ServerSecrets:
    found = load_secrets(folder)
    assert found is not None
    return found


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that name the directory or work in it."""
    lines = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in line or (path / "cwd").resolve().is_relative_to(folder):
                lines.append(line)
        except OSError:
            continue
    return lines


def test_neither_a_secret_nor_the_key_is_in_a_backup(team: TeamServer, backup: Path) -> None:
    command = [find_programs() / "pg_restore", "--file=-", backup]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    secrets = secrets_of(team.dir)
    assert "canary" in text
    assert [word for word in (CANARY, secrets.encryption_key, secrets.auth_string, "fernet_key") if word in text] == []
    assert backup.stat().st_mode & 0o777 == 0o600


def test_blocks_deployments_and_runs_survive_a_restore_and_new_keys(restored: Restored) -> None:
    assert restored.block["data"] == {"value": CANARY}
    assert restored.deployment["entrypoint"] == "trivial_flows.py:note"
    assert restored.run["parameters"] == {"path": "/nowhere"}


def test_new_keys_are_new(restored: Restored, team: TeamServer) -> None:
    old, new = secrets_of(team.dir), restored.secrets
    assert (new.encryption_key == old.encryption_key, new.auth_string == old.auth_string) == (False, False)
    assert new.previous_key == ""
    assert restored.auth == new.auth_string


def test_down_leaves_no_process(restored: Restored) -> None:
    assert restored.left == []


def test_what_is_there_is_replaced_only_if_that_is_said(restored: Restored, backup: Path, team: TeamServer) -> None:
    shutil.copy(team.dir / "secrets.env", restored.folder)
    refused = nemotron("server", "restore", str(backup), "--dir", str(restored.folder))
    assert refused.returncode == 2
    assert "is not empty, it has " in refused.stderr
    assert "restored" in succeed("restore", str(backup), "--replace", folder=restored.folder)


def test_with_another_key_a_restore_is_refused_before_anything_is_made(backup: Path, team_folder: Path) -> None:
    folder = team_folder / "other-key"
    done = nemotron("server", "restore", str(backup), "--dir", str(folder))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {backup}: its blocks are encrypted with another key than that in {folder}")
    assert not (folder / "postgres").exists()


def test_a_running_server_is_neither_restored_nor_given_new_keys(team: TeamServer, backup: Path) -> None:
    for_running = [team.nemotron("restore", str(backup)), team.nemotron("rotate-key"), team.nemotron("rotate-auth")]
    assert [done.returncode for done in for_running] == [2, 2, 2]
    assert f"{owner(team.dir)} works on it; stop that first" in for_running[0].stderr


def test_a_backup_is_not_written_over(team: TeamServer, backup: Path) -> None:
    done = team.nemotron("backup", str(backup))
    assert done.stderr == f"error: {backup} is there already; name a new file\n"
