"""The team server as a command handles it: up, down, how it stands, and what a client needs to reach it."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from nemo_runspec.errors import ConfigError, RequirementError
from nemo_runspec.jobs.local import log_size, tail
from nemotron.deployments import secrets_file, server_process
from nemotron.deployments.background import owner, start_in_background, stop_owner
from nemotron.deployments.server_settings import AskedSettings, ServerSettings, load_settings
from nemotron.deployments.supervisor import LOGS_NAME, read_status

START_TIMEOUT_S = 180.0  # the first start makes a database: 15 s on an idle machine
STOP_TIMEOUT_S = 90.0
ANSWER_TIMEOUT_S = 2.0
HOPELESS_STARTS = 4
SHOWN_LINES = 15


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """How a server stands: `programs` as its supervisor tells, none where it is down."""

    settings: ServerSettings | None
    answers: bool
    programs: list[dict[str, Any]]


def bring_up(
    folder: Path, asked: AskedSettings, *, database_url: str = "", timeout_s: float = START_TIMEOUT_S
) -> ServerSettings:
    """Start the folder's server in the background unless it runs, and return when it answers.

    Raises:
        ConfigError: it runs already, otherwise than asked for.
        RequirementError: it cannot be started, or does not answer in that time; then it is not left running.
    """
    check_prefect()
    if owner(folder) is not None:
        if settings := load_settings(folder):
            asked.check_is(settings, folder)
        return wait_until_it_answers(folder, None, timeout_s=timeout_s)
    log_path = folder / LOGS_NAME / "supervisor.log"
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    begin = log_size(log_path)
    process = start_in_background(
        server_command(folder, asked), log_path, env={server_process.ENV_DATABASE_URL: database_url}
    )
    try:
        return wait_until_it_answers(folder, process, timeout_s=timeout_s, log_begin=begin)
    except BaseException:
        if process.poll() is None:
            process.terminate()
            process.wait()
        raise


def server_command(folder: Path, asked: AskedSettings) -> list[str]:
    """What `python -m` runs to be the server."""
    options = {"--host": asked.host, "--port": asked.port, "--public-url": asked.public_url}
    given = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    return [server_process.__name__, str(folder.absolute()), *given]


def check_prefect() -> None:
    """Raise RequirementError where Prefect is not installed."""
    if importlib.util.find_spec("prefect") is None:
        raise RequirementError("the team server needs Prefect; pip install 'nemotron-flows[flows]'")


def wait_until_it_answers(
    folder: Path, process: subprocess.Popen[bytes] | None, *, timeout_s: float, log_begin: int = 0
) -> ServerSettings:
    """Return when the API says that it is healthy; `process` is the supervisor, if it was started here.

    Raises:
        RequirementError: it has ended, or does not answer in that time.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        state = server_state(folder)
        if state.answers and state.settings is not None:
            return state.settings
        if process is not None and process.poll() is not None and owner(folder) is None:
            said = tail(folder / LOGS_NAME / "supervisor.log", begin=log_begin)
            errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
            raise RequirementError(errors[-1] if errors else f"the server has ended: {' '.join(said[-SHOWN_LINES:])}")
        if any(program["starts"] >= HOPELESS_STARTS for program in state.programs):
            break
        time.sleep(0.1)
    raise RequirementError(f"the server of {folder} does not answer:\n{last_lines(folder)}")


def server_state(folder: Path) -> ServerState:
    """How the folder's server stands now."""
    settings = load_settings(folder)
    programs = read_status(folder)
    answers = bool(programs and settings and is_healthy(settings.local_api_url))
    return ServerState(settings=settings, answers=answers, programs=programs)


def is_healthy(api_url: str) -> bool:
    """Whether the API answers that it is, within `ANSWER_TIMEOUT_S`."""
    try:
        with urlopen(f"{api_url}/health", timeout=ANSWER_TIMEOUT_S) as response:
            return bool(response.read() == b"true")
    except OSError:
        return False


def take_down(folder: Path) -> bool:
    """End the folder's server and all its processes; False if it does not run.

    Raises:
        RequirementError: it is not this user's or on this host, or does not end.
    """
    return stop_owner(folder, timeout_s=STOP_TIMEOUT_S)


def client_environment(folder: Path) -> Mapping[str, str]:
    """What a client of the folder's server sets.

    Raises:
        ConfigError: it was never started.
    """
    settings, secrets = load_settings(folder), secrets_file.load_secrets(folder)
    if settings is None or secrets is None:
        raise ConfigError(f"no server was ever started in {folder}; nemotron server up starts it")
    return {"PREFECT_API_URL": settings.api_url, "PREFECT_API_AUTH_STRING": secrets.auth_string}


def export_lines(environment: Mapping[str, str]) -> str:
    """Shell lines that set it."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())


def last_lines(folder: Path, *, number: int = SHOWN_LINES) -> str:
    """The end of each log, under its name."""
    paths = sorted((folder / LOGS_NAME).glob("*.log"), key=os.path.getmtime)
    parts = [(path, tail(path, begin=0)[-number:]) for path in paths]
    return "\n".join("\n".join([f"{path}:", *(f"    {line}" for line in lines)]) for path, lines in parts if lines)
