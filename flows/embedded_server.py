"""A Prefect server for one flow run on this machine: its own process and SQLite file, gone when the flow is.

Prefect can start such a server itself, but in the terminal's process group and without a tie to its parent: Ctrl-C ends
the server before the flow has told it what happened, and a killed flow leaves the server behind (Prefect 3.8.8).
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from nemo_runspec.errors import RequirementError
from nemo_runspec.jobs import local

START_TIMEOUT_S = 180.0  # an idle machine needs 5 s, a busy one has been seen to need 40
STOP_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 15.0
# As prefect.server.api.server.SubprocessASGIServer (3.8.8) sets them: no UI, no scheduler.
SERVER_ENV = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT_SERVER_LOGGING_LEVEL": "ERROR"}


@contextmanager
def embedded_server(log_path: Path) -> Iterator[str]:
    """Yield the API URL of a server that lives as long as the block; its output goes to `log_path`.

    Raises:
        RequirementError: it does not answer within `START_TIMEOUT_S` seconds.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        command = server_command(listener.fileno())
        process = local.start(command, env=SERVER_ENV, log_path=log_path, inherited_fd=listener.fileno())
    try:
        wait_for_server(url, log_path)
        yield url
    finally:
        local.terminate(process, grace_s=STOP_TIMEOUT_S)


def check_server(url: str) -> None:
    """Raise RequirementError unless a server answers at this API URL, which the user has set."""
    try:
        with urlopen(f"{url}/health", timeout=ANSWER_TIMEOUT_S):
            return
    except (OSError, ValueError) as error:
        raise RequirementError(
            f"Prefect API URL {url!r} (from PREFECT_API_URL or your Prefect profile) does not answer: {error}; "
            "start that server, unset the URL, or run with --plain, without Prefect"
        ) from error


def server_command(listener_fd: int) -> list[str]:
    """Serve on the socket that is already listening, so that no port is lost between choosing and using it."""
    return [sys.executable, "-P", "-m", "nemotron.flows.prefect_app", str(listener_fd)]


def wait_for_server(url: str, log_path: Path) -> None:
    """Return when the server answers; the request waits in the listening socket until it does."""
    try:
        with urlopen(f"{url}/health", timeout=START_TIMEOUT_S):
            return
    except OSError as error:
        raise RequirementError(
            f"the embedded Prefect server did not answer within {START_TIMEOUT_S:.0f} s: {error}; see {log_path}, "
            "or run with --plain, without Prefect"
        ) from error
