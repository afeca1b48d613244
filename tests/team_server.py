"""A real team server for tests: PostgreSQL and Prefect as `nemotron server up` starts them, in its own directory."""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect_server import ask

from nemo_runspec.errors import RequirementError
from nemotron.deployments.postgres_programs import find_programs
from nemotron.deployments.server import client_environment


def require_postgres() -> None:
    """Skip where nobody can install PostgreSQL, fail where `./test` should have."""
    try:
        find_programs()
    except RequirementError as error:
        if os.getuid() != 0:
            pytest.skip(str(error))
        raise


@dataclass(frozen=True, kw_only=True)
class TeamServer:
    """A server that is up; `env` points a process at it."""

    api_url: str
    auth: str
    dir: Path

    @property
    def env(self) -> dict[str, str]:
        return {"PREFECT_API_URL": self.api_url, "PREFECT_API_AUTH_STRING": self.auth, "DO_NOT_TRACK": "1"}

    def ask(self, path: str, question: Any = None, *, method: str | None = None) -> Any:
        """What the API answers to a GET, or to a POST of the question; asked again while the database is away."""
        return ask(self.api_url, path, question, method=method, authorization=basic(self.auth))

    def pid(self, program: str) -> int:
        """The process of `postgres` or `server` now, 0 while there is none."""
        return program_pid(self.dir, program)

    def kill(self, program: str, signum: signal.Signals = signal.SIGKILL) -> None:
        """Send the signal to the program."""
        kill_program(self.dir, program, signum)

    def nemotron(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `nemotron server WORDS` for this server's directory."""
        return nemotron("server", *words, "--dir", str(self.dir), **env)


@contextmanager
def team_server(dir: Path) -> Iterator[TeamServer]:
    """The server of that directory for the block; 6 s to start on an idle machine."""
    require_postgres()
    done = nemotron("server", "up", "--port", "0", "--dir", str(dir), cwd=Path("/"))
    try:
        assert done.returncode == 0, done.stderr
        yield connect(dir)
    finally:
        nemotron("server", "down", "--dir", str(dir))


def basic(auth: str) -> str:
    """HTTP's header for it."""
    return f"Basic {base64.b64encode(auth.encode()).decode()}"


def connect(dir: Path) -> TeamServer:
    """The server of that directory, which is up."""
    env = client_environment(dir)
    return TeamServer(api_url=env["PREFECT_API_URL"], auth=env["PREFECT_API_AUTH_STRING"], dir=dir)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A new directory that every user may enter, as PostgreSQL's must; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="team-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def nemotron(*words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `nemotron WORDS` for a user who has no Prefect settings but `env`."""
    return subprocess.run(
        [sys.executable, "-m", "nemotron.cli", *words],
        cwd=cwd,
        env={**clean_environment(), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def clean_environment() -> dict[str, str]:
    """This process's environment without settings of Prefect or of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "NEMOTRON_"))}


def program_pid(folder: Path, program: str) -> int:
    """The process that the folder's supervisor keeps alive under that name, 0 while there is none."""
    with contextlib.suppress(OSError, ValueError):
        for found in json.loads((folder / "status.json").read_text()):
            if found["name"] == program:
                return found["pid"] or 0
    return 0


def kill_program(folder: Path, program: str, signum: signal.Signals = signal.SIGKILL) -> None:
    """Send the signal to the program, as soon as there is one."""
    wait_until(lambda: program_pid(folder, program))
    os.kill(program_pid(folder, program), signum)


def wait_until(condition: Callable[[], object], *, timeout_s: float = 60) -> None:
    """Return once it holds, fail after the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.1)
