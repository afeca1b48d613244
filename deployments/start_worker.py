"""`python -m nemotron.deployments.start_worker --name N --pool P [--limit L]`: make the pool, become its worker.

Before that, what a worker of this name had taken but not started when it was killed is given back to the pool.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from nemo_runspec.errors import ConfigError, RequirementError, RunspecError
from nemotron.blocks.prefect_api import prefect_api_url
from nemotron.deployments.background import log_to_stderr
from nemotron.deployments.worker import running_flows

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POOL_TYPE = "process"
WORKER_LABEL = "prefect.worker.name"  # prefect.workers.base.BaseWorker._give_worker_labels_to_flow_run
REFUSED = 2
logger = logging.getLogger("nemotron.deployments.start_worker")  # __name__ is __main__ here


def main(argv: list[str]) -> NoReturn:
    """Become `prefect worker start`; exit with 2 where that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m nemotron.deployments.start_worker")
    parser.add_argument("--name", required=True)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--limit")
    args = parser.parse_args(argv)
    log_to_stderr()
    try:
        prepare_pool(args.name, args.pool)
    except RunspecError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(REFUSED)
    become_worker(args.name, args.pool, limit=args.limit)


def become_worker(name: str, pool: str, *, limit: str | None) -> NoReturn:
    """Replace this process by Prefect's worker."""
    options = ["--type", POOL_TYPE, "--pool", pool, "--name", name, *(["--limit", limit] if limit else [])]
    os.execv(sys.executable, [sys.executable, "-P", "-m", "prefect", "worker", "start", *options])


def prepare_pool(worker: str, pool: str) -> None:
    """Do what must be done before the worker can begin.

    Raises:
        ConfigError: there is a pool of another type by that name.
        RequirementError: the server does not answer, or does not know us.
    """
    import httpx
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            ensure_pool(client, pool)
            give_back(client, worker, pool)
    except (httpx.HTTPError, RuntimeError) as error:  # the latter: Prefect's "Failed to reach API"
        raise RequirementError(f"Prefect API {prefect_api_url()}: {' '.join(str(error).split())}") from error


def ensure_pool(client: SyncPrefectClient, name: str) -> None:
    """Have a pool of that name whose flow runs are processes that outlive their worker."""
    from prefect.client.schemas.actions import WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound

    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        create_pool(client, name)
        return
    if pool.type != POOL_TYPE:
        raise ConfigError(f"work pool {name!r} is of type {pool.type!r}, not {POOL_TYPE!r}; give another --pool")
    if streams_output(pool.base_job_template):
        client.update_work_pool(name, WorkPoolUpdate(base_job_template=without_streams(pool.base_job_template)))
        logger.info("work pool %s: flow runs no longer print into pipes of their worker", name)


def create_pool(client: SyncPrefectClient, name: str) -> None:
    """Make it; another worker may have done so meanwhile."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = without_streams(ProcessWorker.get_default_base_job_template())
    try:
        client.create_work_pool(WorkPoolCreate(name=name, type=POOL_TYPE, base_job_template=template))
    except ObjectAlreadyExists:
        return
    logger.info("work pool %s: created", name)


def give_back(client: SyncPrefectClient, worker: str, pool: str) -> None:
    """Schedule the pool's pending runs again that the worker had taken and that have no process here.

    Prefect 3.8.8 leaves them Pending for ever. The worker's name must be its own: runs of a namesake elsewhere that are
    about to start would be started twice.
    """
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType
    from prefect.states import Scheduled

    state = filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[StateType.PENDING]))
    in_pool = filters.WorkPoolFilter(name=filters.WorkPoolFilterName(any_=[pool]))
    here = running_flows(worker)
    for run in client.read_flow_runs(flow_run_filter=filters.FlowRunFilter(state=state), work_pool_filter=in_pool):
        if run.labels.get(WORKER_LABEL) == worker and str(run.id) not in here:
            client.set_flow_run_state(run.id, Scheduled(message=f"Worker {worker} had taken it and was killed"))
            logger.info("flow run %s: scheduled again", run.name)


def streams_output(template: dict[str, Any]) -> bool:
    """Whether flow runs print into pipes that end with the worker."""
    return _stream_output(template).get("default") is not False


def without_streams(template: dict[str, Any]) -> dict[str, Any]:
    """The same template, by which flow runs print into nothing; what they log goes to the server."""
    _stream_output(template)["default"] = False
    return template


def _stream_output(template: dict[str, Any]) -> dict[str, Any]:
    properties = template.setdefault("variables", {}).setdefault("properties", {})
    found: dict[str, Any] = properties.setdefault("stream_output", {"type": "boolean", "title": "Stream Output"})
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
