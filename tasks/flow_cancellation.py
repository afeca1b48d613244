"""Whether somebody cancelled the flow run that this process works for: asks the Prefect server, sparingly."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext

ASK_EVERY_S = 4.0
logger = logging.getLogger(__name__)


def flow_cancellation() -> Callable[[], bool]:
    """A function that says whether the current flow run is being cancelled; a server that is away means no."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None:
        return lambda: False
    asked_at, said = float("-inf"), False

    def is_cancelled() -> bool:
        nonlocal asked_at, said
        if said or time.monotonic() - asked_at < ASK_EVERY_S:
            return said
        asked_at = time.monotonic()
        try:
            with get_client(sync_client=True) as client:
                state = client.read_flow_run(run.id).state
        except Exception as error:  # the job goes on without the server
            logger.debug("Prefect does not answer: %s", error)
            return False
        said = state is not None and state.type in (StateType.CANCELLING, StateType.CANCELLED)
        return said

    return is_cancelled
