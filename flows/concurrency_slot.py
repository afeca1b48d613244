"""Keeps a run's slot of its deployment's concurrency limit, and the run alive without it.

Prefect 3.8.8 ends a flow run that cannot renew its slot. Measured: 225 s after its server was started again, or after a
run was paused, which gives up the slot. A stage of hours is worth more than the limit.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from typing import Any
from uuid import UUID

import httpx
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State

LEASE_S = 1800.0
"""How long the server may be away before it gives the slot to another run."""
RENEW_EVERY_S = 60.0
logger = logging.getLogger(__name__)


def keep_slot(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Do the renewing in place of Prefect; to be called when the run begins."""
    lease = state.state_details.deployment_concurrency_lease_id
    if lease is None:
        return
    state.state_details.deployment_concurrency_lease_id = None  # else Prefect does it, too
    context = contextvars.copy_context()  # where the API's URL is
    threading.Thread(target=context.run, args=(renew_until_lost, lease), daemon=True).start()


def renew_until_lost(lease: UUID, *, every_s: float = RENEW_EVERY_S) -> None:
    """Renew it as long as the server knows it; one that does not answer is asked again."""
    while True:
        try:
            with get_client(sync_client=True) as client:
                client.renew_concurrency_lease(lease, lease_duration=LEASE_S)
        except httpx.HTTPStatusError as error:
            if error.response.is_client_error:
                logger.info("this run has no slot of its deployment's concurrency limit any more; it goes on without")
                return
        except httpx.HTTPError as error:
            logger.debug("Prefect does not answer: %s", error)
        time.sleep(every_s)
