"""A client of the Prefect server for what must not wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

TIMEOUT_S = 5.0


@contextmanager
def hasty_client(*, timeout_s: float = TIMEOUT_S) -> Iterator[SyncPrefectClient]:
    """A client for the block that gives a request up after that time and tries none twice."""
    hasty = {PREFECT_API_REQUEST_TIMEOUT: timeout_s, PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(hasty), get_client(sync_client=True) as client:
        yield client
