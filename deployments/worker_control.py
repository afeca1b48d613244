"""Starts a worker in the background, once it is known that it can work."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import quote

from nemo_runspec.errors import RequirementError
from nemo_runspec.jobs.local import log_size, tail
from nemotron.blocks.prefect_api import ask_prefect, prefect_api_url
from nemotron.deployments import worker_process
from nemotron.deployments.background import owner, start_in_background
from nemotron.deployments.server import check_prefect
from nemotron.deployments.supervisor import LOGS_NAME
from nemotron.deployments.worker import WorkerOptions

ANSWER_TIMEOUT_S = 30.0
START_TIMEOUT_S = 120.0  # Prefect's imports on a busy machine
LOOK_EVERY_S = 0.2


def start_worker(folder: Path, options: WorkerOptions) -> None:
    """Start it in the background unless it runs; return once the server has heard of it.

    Raises:
        RequirementError: no server is configured or it does not answer; the worker has ended, or the server
            does not hear of it.
    """
    url = check_client()
    earlier = _last_heartbeat(options, url)
    if owner(folder) is not None:
        return
    log_path = folder / LOGS_NAME / "supervisor.log"
    begin = log_size(log_path)
    limit = [] if options.limit is None else ["--limit", str(options.limit)]
    command = [worker_process.__name__, str(folder), "--name", options.name, "--pool", options.pool, *limit]
    process = start_in_background(command, log_path, env={})
    deadline = time.monotonic() + START_TIMEOUT_S
    while owner(folder) is None or not _is_heard_of(options, url, since=earlier):
        if process.poll() is not None and owner(folder) is None:
            raise RequirementError(f"the worker has not started: {' '.join(tail(log_path, begin=begin))}")
        if time.monotonic() > deadline:
            raise RequirementError(
                f"the server has not heard of worker {options.name} for {START_TIMEOUT_S:g} s; it goes on trying: "
                "nemotron worker logs shows why, nemotron worker stop ends it"
            )
        time.sleep(LOOK_EVERY_S)


def _is_heard_of(options: WorkerOptions, url: str, *, since: str | None) -> bool:
    try:
        return _last_heartbeat(options, url) != since
    except RequirementError:
        return False


def _last_heartbeat(options: WorkerOptions, url: str) -> str | None:
    """When the server last heard of a worker of that name, None if it never did; raises RequirementError."""
    by_name = {"work_pools": {"name": {"any_": [options.pool]}}}
    if not ask_prefect("work_pools/filter", by_name, url=url, timeout_s=ANSWER_TIMEOUT_S):
        return None
    path = f"work_pools/{quote(options.pool, safe='')}/workers/filter"
    found = ask_prefect(path, {}, url=url, timeout_s=ANSWER_TIMEOUT_S)
    return next((worker["last_heartbeat_time"] for worker in found if worker["name"] == options.name), None)


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
