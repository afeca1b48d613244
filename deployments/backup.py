"""Saves the team server's database to a file, and fills one from it. The encryption key is not in the file."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nemo_runspec.errors import ConfigError, RequirementError
from nemotron.deployments.background import owned, owner
from nemotron.deployments.database import Database, find_database
from nemotron.deployments.postgres_programs import program_environment
from nemotron.deployments.secrets_file import FILE_NAME, ServerSecrets, load_secrets
from nemotron.deployments.server_process import prepare_secrets
from nemotron.deployments.supervisor import LOGS_NAME

START_TIMEOUT_S = 60.0
EMPTY = "DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public"
COUNT_TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
_TOKEN = re.compile(r"gAAAA[A-Za-z0-9_-]{40,}={0,2}")  # cryptography.fernet: 0x80 and the high bytes of the time


def save_backup(folder: Path, file: Path) -> list[str]:
    """Write the database to a new file, whether the server is up or not; what to tell the user.

    Raises:
        ConfigError: the file is there, or no server was ever started in the folder.
        RequirementError: pg_dump says no.
    """
    if file.exists():
        raise ConfigError(f"{file} is there already; name a new file")
    database = find_database(folder, existing_secrets(folder))
    partial = file.with_name(f"{file.name}.partial")
    partial.touch(mode=0o600)
    try:
        if owner(folder) is None:
            with owned(folder), running(folder, database):
                run_tool(database, "pg_dump", "--format=custom", f"--file={partial}", database.url)
        else:
            run_tool(database, "pg_dump", "--format=custom", f"--file={partial}", database.url)
        partial.rename(file)
    finally:
        partial.unlink(missing_ok=True)
    return [
        f"saved {file}, {file.stat().st_size / 1e6:.1f} MB",
        f"keep a copy of {folder / FILE_NAME} elsewhere: without its key nobody can read the secrets in the blocks",
    ]


def restore_backup(folder: Path, file: Path, *, replace: bool) -> str:
    """Fill the database of a server that is down, all or nothing; what to tell the user.

    Raises:
        ConfigError: no such file, the blocks in it are encrypted with another key, or the database is not empty.
        RequirementError: the server is up, or PostgreSQL says no.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: no such file; expected one that nemotron server backup wrote")
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    with owned(folder):
        secrets = prepare_secrets(folder, database_url="")
        database = find_database(folder, secrets)
        check_key(database, file, secrets, folder / FILE_NAME)
        database.prepare()
        with running(folder, database):
            num_tables = int(run_tool(database, "psql", "-XAt", "-d", database.url, "-c", COUNT_TABLES))
            if num_tables and not replace:
                raise ConfigError(
                    f"the database of {folder} is not empty, it has {num_tables} tables; --replace puts those of "
                    f"{file} in their place"
                )
            fill(database, file)
        (folder / "home" / "memo_store.toml").unlink(missing_ok=True)  # it says which block types are in the database
    return f"restored {file}; nemotron server up starts it"


def check_key(database: Database, file: Path, secrets: ServerSecrets, secrets_path: Path) -> None:
    """Raise ConfigError where a block in the backup cannot be read with the server's key; changes nothing."""
    from cryptography.fernet import Fernet, InvalidToken

    fernet = Fernet(secrets.encryption_key)
    blocks = run_tool(database, "pg_restore", "--data-only", "--table=block_document", "--file=-", str(file))
    try:
        for token in _TOKEN.findall(blocks):
            fernet.decrypt(token)
    except InvalidToken:
        raise ConfigError(
            f"{file}: its blocks are encrypted with another key than that in {secrets_path}; put the line "
            "PREFECT_SERVER_ENCRYPTION_KEY of the old server's secrets.env there. Nothing was changed"
        ) from None


def fill(database: Database, file: Path) -> None:
    """Replace all that is in the database in one transaction."""
    with tempfile.NamedTemporaryFile(suffix=".sql") as script:  # complete before the first line of it is run
        run_tool(database, "pg_restore", "--no-owner", "--no-privileges", f"--file={script.name}", str(file))
        psql = ["-Xq", "--single-transaction", "-v", "ON_ERROR_STOP=1", "-d", database.url]
        run_tool(database, "psql", *psql, "-c", "SET client_min_messages = warning", "-c", EMPTY, "-f", script.name)


def existing_secrets(folder: Path) -> ServerSecrets:
    """The folder's secrets.

    Raises:
        ConfigError: no server was ever started there.
    """
    found = load_secrets(folder)
    if found is None:
        raise ConfigError(f"no server was ever started in {folder}; --dir names another directory")
    return found


@contextmanager
def running(folder: Path, database: Database) -> Iterator[None]:
    """Have the server's own database run for the block; the caller owns the folder."""
    if database.cluster is None:
        yield
        return
    program = database.cluster.program()
    (folder / LOGS_NAME).mkdir(mode=0o700, exist_ok=True)
    process = program.start(folder / LOGS_NAME / f"{program.name}.log")
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not program.is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RequirementError(f"PostgreSQL does not start; see {folder / LOGS_NAME}")
            time.sleep(0.1)
        yield
    finally:
        program.end(process)


def run_tool(database: Database, tool: str, *args: str) -> str:
    """What one of PostgreSQL's programs prints.

    Raises:
        RequirementError: it fails, in its words.
    """
    done = subprocess.run(
        [str(database.tools() / tool), *args],
        env=program_environment() | {"PGPASSWORD": database.password},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RequirementError(f"{tool}: {' '.join(done.stderr.split())[-1000:]}")
    return done.stdout
