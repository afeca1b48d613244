"""A client of the Prefect server for what a stage must not wait for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

TIMEOUT_S = 5.0


@contextmanager
def hasty_client() -> Iterator[SyncPrefectClient]:
    """A client for the block that gives a request up after some seconds and tries none twice."""
    hasty = {PREFECT_API_REQUEST_TIMEOUT: TIMEOUT_S, PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(hasty), get_client(sync_client=True) as client:
        yield client
