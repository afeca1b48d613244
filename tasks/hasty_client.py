"""A client of the Prefect server for what must not wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

TIMEOUT_S = 8.0  # a busy server takes seconds; Prefect ends a cancelled process after 30
AGAIN_FOR_S = 3.0
PAUSE_S = 0.3

T = TypeVar("T")


def ask_again(ask: Callable[[], T]) -> T:
    """The answer; a question that fails at once, as of a busy server or a cut connection, is asked again for 3 s."""
    until = time.monotonic() + AGAIN_FOR_S
    while True:
        try:
            return ask()
        except Exception:
            if time.monotonic() > until:
                raise
        time.sleep(PAUSE_S)


@contextmanager
def hasty_client(*, timeout_s: float | None = None) -> Iterator[SyncPrefectClient]:
    """A client for the block that gives a request up after that time, `TIMEOUT_S` if None, and tries none twice."""
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        yield _client(PREFECT_API_URL.value(), TIMEOUT_S if timeout_s is None else timeout_s)


@cache  # it takes 50 ms to make one, and some are asked every few seconds
def _client(api_url: str | None, timeout_s: float) -> SyncPrefectClient:  # noqa: ARG001
    """With settings of its own: without, a flow's own client is given out, which waits a minute."""
    return get_client(sync_client=True, httpx_settings={"timeout": timeout_s})
