"""A worker for the team's work pool, kept alive: it starts flow runs as processes of this machine.

A flow run outlives its worker: it was started in a session of its own, prints into nothing (a pipe to a worker that is
gone would end it), and reports to the server itself. Hence a worker is stopped and started again at any time.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nemo_runspec.errors import ConfigError
from nemo_runspec.launch.children import descendants
from nemotron.deployments.program import Program

POOL = "nemotron"
LOGGERS = ("nemotron", "nemo_runspec")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """`limit`: how many flow runs at a time; None is any number."""

    name: str
    pool: str = POOL
    limit: int | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"--name {self.name!r}: expected letters, digits and . _ -, as {default_name()}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit {self.limit}: expected 1 or more, or none for any number")


def default_name() -> str:
    """This machine's."""
    return socket.gethostname()


def worker_folder(home: Path, name: str) -> Path:
    """Where the worker's lock, status and logs are, in the project's `.nemotron`."""
    return home / "workers" / name


def worker_program(folder: Path, options: WorkerOptions) -> Program:
    """Prefect's worker, to be kept alive."""
    logging_path = folder / "logging.yml"
    write_logging_config(logging_path)
    limit = [] if options.limit is None else ["--limit", str(options.limit)]
    return Program(
        name="worker",
        command=[
            *(sys.executable, "-P", "-m", "nemotron.deployments.start_worker"),
            *("--name", options.name, "--pool", options.pool, *limit),
        ],
        env=worker_environment(os.environ, logging_path),
        folder=folder,
        ending=choose_ending,
        orphaned=signal.SIGKILL,
    )


def worker_environment(environ: Mapping[str, str], logging_path: Path) -> dict[str, str]:
    """The environment of the worker and, through it, of the flows: what our code logs reaches the server's UI."""
    loggers = [*filter(None, environ.get("PREFECT_LOGGING_EXTRA_LOGGERS", "").split(",")), *LOGGERS]
    return {
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_SETTINGS_PATH": str(logging_path),
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        **environ,
        "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(dict.fromkeys(loggers)),
    }


def write_logging_config(path: Path) -> None:
    """Prefect's own configuration with a level for our loggers: as extra loggers they get its handlers only."""
    found = importlib.util.find_spec("prefect")
    assert found is not None
    assert found.origin is not None
    text = Path(found.origin).with_name("logging").joinpath("logging.yml").read_text(encoding="utf-8")
    levels = "".join(f"  {name}:\n    level: ${{PREFECT_LOGGING_LEVEL}}\n" for name in LOGGERS)
    path.write_text(text.replace("\nloggers:\n", f"\nloggers:\n{levels}"), encoding="utf-8")


def choose_ending(process: subprocess.Popen[bytes]) -> signal.Signals:
    """SIGKILL while flows run: at SIGTERM Prefect 3.8.8 kills them, and they stay Running on the server for ever."""
    return signal.SIGKILL if descendants(process.pid) else signal.SIGTERM


def running_flows(name: str) -> set[str]:
    """Ids of the flow runs that the worker of that name started and whose processes are still here."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        environ = dict(word.split("=", 1) for word in words if "=" in word)
        if environ.get("PREFECT__WORKER_NAME") == name and (run_id := environ.get("PREFECT__FLOW_RUN_ID")):
            found.add(run_id)
    return found
