"""Keeps a run's slot of its deployment's concurrency limit, and the run alive without it.

Prefect 3.8.8 ends a flow run that cannot renew its slot. Measured: 225 s after its server was started again, or after a
run was paused, which gives up the slot. A stage of hours is worth more than the limit.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
from prefect import Flow, flow_engine
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State

LEASE_S = 1800.0
"""How long the server may be away before it gives the slot to another run."""
RENEW_EVERY_S = 60.0
logger = logging.getLogger(__name__)


def keep_slot(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Have this process keep its slot our way; to be called before Prefect does it, when the run begins."""
    setattr(flow_engine, "maintain_concurrency_lease", slot_kept)  # noqa: B010  there is no setting for it


@contextmanager
def slot_kept(lease: UUID, *_args: object, **_kwargs: object) -> Iterator[None]:
    """Renew the slot for the block, as long as the server knows it."""
    ended = threading.Event()
    context = contextvars.copy_context()  # where the API's URL is
    threading.Thread(target=context.run, args=(renew, lease, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def renew(lease: UUID, ended: threading.Event, *, every_s: float = RENEW_EVERY_S) -> None:
    """Renew it until then or until the server does not know it; one that does not answer is asked again."""
    while not ended.is_set():
        try:
            with get_client(sync_client=True) as client:
                client.renew_concurrency_lease(lease, lease_duration=LEASE_S)
        except httpx.HTTPStatusError as error:
            if error.response.is_client_error:
                logger.info("this run has no slot of its deployment's concurrency limit any more; it goes on without")
                return
        except httpx.HTTPError as error:
            logger.debug("Prefect does not answer: %s", error)
        ended.wait(every_s)
