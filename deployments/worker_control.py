"""Starts a worker in the background, once it is known that it can work."""

from __future__ import annotations

import time
from pathlib import Path

from nemo_runspec.errors import RequirementError
from nemo_runspec.jobs.local import log_size, tail
from nemotron.blocks.prefect_api import ask_prefect, prefect_api_url
from nemotron.deployments import worker_process
from nemotron.deployments.background import owner, start_in_background
from nemotron.deployments.server import check_prefect
from nemotron.deployments.supervisor import LOGS_NAME
from nemotron.deployments.worker import WorkerOptions

START_TIMEOUT_S = 30.0


def start_worker(folder: Path, options: WorkerOptions) -> None:
    """Start it in the background unless it runs.

    Raises:
        RequirementError: no server is configured or it does not answer; the worker's process has ended at once.
    """
    ask_prefect("work_pools/filter", {"limit": 1}, url=check_client(), timeout_s=START_TIMEOUT_S)
    if owner(folder) is not None:
        return
    log_path = folder / LOGS_NAME / "supervisor.log"
    begin = log_size(log_path)
    limit = [] if options.limit is None else ["--limit", str(options.limit)]
    command = [worker_process.__name__, str(folder), "--name", options.name, "--pool", options.pool, *limit]
    process = start_in_background(command, log_path, env={})
    deadline = time.monotonic() + START_TIMEOUT_S
    while owner(folder) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RequirementError(f"the worker has not started: {' '.join(tail(log_path, begin=begin))}")
        time.sleep(0.05)


def check_client() -> str:
    """The URL of the API that is configured.

    Raises:
        RequirementError: none is, or Prefect is not installed.
    """
    check_prefect()
    url = prefect_api_url()
    if url is None:
        raise RequirementError(
            'no Prefect API is configured; eval "$(nemotron server env)" where the server is, or set PREFECT_API_URL '
            "and PREFECT_API_AUTH_STRING"
        )
    return url
