"""Whether somebody cancelled the flow run that this process works for: asks the Prefect server, sparingly."""

from __future__ import annotations

import logging
import time

from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext

from nemotron.tasks.hasty_client import ask_again, hasty_client
from nemotron.tasks.interrupts import CancelCheck, never

ASK_EVERY_S = 4.0
logger = logging.getLogger(__name__)


def flow_cancellation() -> CancelCheck:
    """A function that says whether the current flow run is being cancelled; a server that is away means no."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None:
        return never
    asked_at, said = float("-inf"), False

    def ask() -> State | None:
        with hasty_client() as client:  # a server that hangs must not keep the stage from seeing its job's end
            return client.read_flow_run(run.id).state

    def is_cancelled(*, now: bool = False) -> bool:
        nonlocal asked_at, said
        if said or (not now and time.monotonic() - asked_at < ASK_EVERY_S):
            return said
        asked_at = time.monotonic()
        try:
            state = ask_again(ask) if now else ask()
        except Exception as error:  # the job goes on without the server
            logger.debug("Prefect does not answer: %s", error)
            return False
        said = state is not None and state.type in (StateType.CANCELLING, StateType.CANCELLED)
        return said

    return is_cancelled
