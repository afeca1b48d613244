"""The process that is a team server: makes what is missing in its folder, then keeps PostgreSQL and Prefect alive.

`python -m nemotron.deployments.server_process FOLDER [--host H] [--port P] [--public-url U]`; the URL of a database
elsewhere comes as $NEMOTRON_DATABASE_URL, because anybody may read a command line.
"""

from __future__ import annotations

import argparse
import errno
import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nemo_runspec.errors import ConfigError, RequirementError, RunspecError
from nemotron.deployments import secrets_file, server_settings
from nemotron.deployments.background import log_to_stderr, owned
from nemotron.deployments.database import Database, find_database
from nemotron.deployments.program import Program
from nemotron.deployments.secrets_file import ServerSecrets
from nemotron.deployments.server_settings import AskedSettings, ServerSettings
from nemotron.deployments.supervisor import read_status, supervise

ENV_DATABASE_URL = "NEMOTRON_DATABASE_URL"
EXTRA_NAME = "server.env"
REFUSED = 2
PORT_WAIT_S = 30.0
"""How long a server whose supervisor was killed may take to leave its port."""
BACKLOG = 2048


def main(argv: list[str]) -> int:
    """Be the server until SIGTERM; 2 with `error: …` on standard error where it cannot be."""
    parser = argparse.ArgumentParser(prog="python -m nemotron.deployments.server_process")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--public-url")
    args = parser.parse_args(argv)
    log_to_stderr()
    asked = AskedSettings(host=args.host, port=args.port, public_url=args.public_url)
    try:
        run_server(args.folder, asked, database_url=os.environ.get(ENV_DATABASE_URL, ""))
    except RunspecError as error:
        sys.stderr.write(f"error: {error}\n")
        return REFUSED
    return 0


def run_server(folder: Path, asked: AskedSettings, *, database_url: str = "", to_files: bool = True) -> None:
    """Be the folder's server until SIGTERM; what its programs print goes `to_files`, or where this process prints.

    Raises:
        RunspecError: it cannot be, because of what was asked for, of what is in the folder, or of this machine.
    """
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)  # as root, PostgreSQL is another user's
    os.umask(0o077)
    with owned(folder):
        secrets = prepare_secrets(folder, database_url=database_url)
        database = find_database(folder, secrets)
        settings = asked.over(server_settings.load_settings(folder))
        was_killed = any(program["pid"] for program in read_status(folder))  # else the last one had ended them
        with listen(settings, wait_s=PORT_WAIT_S if was_killed else 0.0) as listener:
            settings = replace(settings, port=listener.getsockname()[1])
            database.prepare()
            server_settings.save_settings(folder, settings)
            server = prefect_program(folder, settings, secrets, database, fd=listener.fileno())
            supervise(folder, [*database.programs(), server], to_files=to_files)


def prepare_secrets(folder: Path, *, database_url: str) -> ServerSecrets:
    """The folder's secrets, made now if there is no database yet.

    Raises:
        ConfigError: the database is there and the secrets are not; another database than before.
    """
    found = secrets_file.load_secrets(folder)
    if found is None:
        if (folder / "postgres" / "data").exists():
            raise ConfigError(
                f"{folder / secrets_file.FILE_NAME} is missing, and the database beside it cannot be opened nor its "
                "blocks be read without it; put back your copy"
            )
        found = secrets_file.new_secrets(database_url=database_url)
        secrets_file.save_secrets(folder, found)
    if found.previous_key:
        raise ConfigError(f"{folder}: a change of the encryption key was cut short; nemotron server rotate-key ends it")
    if database_url not in ("", found.database_url):
        raise ConfigError(
            f"--database-url is not the database of {folder}; give --dir another directory, or change "
            f"{ENV_DATABASE_URL} in {folder / secrets_file.FILE_NAME}"
        )
    return found


def listen(settings: ServerSettings, *, wait_s: float) -> socket.socket:
    """The socket that the server answers on; it stays open while Prefect is started again.

    Raises:
        RequirementError: the port is taken, also after `wait_s` seconds, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise RequirementError(
                    f"cannot listen on {settings.host}, port {settings.port}: {error.strerror}; give another --port, "
                    "or 0 for any free one"
                ) from error
        time.sleep(0.2)


def prefect_program(
    folder: Path, settings: ServerSettings, secrets: ServerSecrets, database: Database, *, fd: int
) -> Program:
    """Prefect's server, to be kept alive."""
    extra = secrets_file.read_env_file(folder / EXTRA_NAME) or {}
    return Program(
        name="server",
        command=[sys.executable, "-P", "-m", "nemotron.flows.prefect_app", str(fd)],
        env={**prefect_environment(folder, settings, secrets, database_url=database.async_url), **extra},
        folder=folder,
        inherited_fds=(fd,),
    )


def prefect_environment(
    folder: Path, settings: ServerSettings, secrets: ServerSecrets, *, database_url: str
) -> Mapping[str, str]:
    """This process's environment without its Prefect settings, which are a client's, and with the server's."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {
        **inherited,
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": database_url,
        "PREFECT_SERVER_API_AUTH_STRING": secrets.auth_string,
        "PREFECT_SERVER_ENCRYPTION_KEY": secrets.encryption_key,
        "PREFECT_SERVER_API_HOST": settings.host,
        "PREFECT_SERVER_API_PORT": str(settings.port),
        "PREFECT_SERVER_UI_API_URL": settings.ui_api_url,
        # By default the UI is unpacked into site-packages, for the first user alone.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(folder / "ui"),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # 15 by default, which 50 flow runs on a busy machine exhaust (benchmarks/many_runs.py).
        "PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE": "20",
        "PREFECT_SERVER_DATABASE_SQLALCHEMY_MAX_OVERFLOW": "30",
        # By default they are in memory, and a flow whose slot is forgotten at a restart is ended by Prefect's client.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "DO_NOT_TRACK": "1",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
