import socket
import time

import httpx
import pytest
from cutting_relay import cutting_relay
from prefect import flow
from prefect.context import SyncClientContext
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_server import ask

from nemotron.tasks.flow_cancellation import flow_cancellation
from nemotron.tasks.hasty_client import hasty_client


def test_a_server_that_hangs_is_given_up_soon_also_inside_a_flow(prefect_api: str) -> None:
    """A flow has a client, which Prefect hands out again where it can, and which waits for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as nobody_answers:
        hangs = f"http://127.0.0.1:{nobody_answers.getsockname()[1]}/api"
        with temporary_settings({PREFECT_API_URL: prefect_api}), SyncClientContext.get_or_create():
            begun = time.monotonic()
            with (
                temporary_settings({PREFECT_API_URL: hangs}),
                hasty_client(timeout_s=1.0) as client,
                pytest.raises(httpx.TimeoutException),
            ):
                client.hello()
    assert time.monotonic() - begun < 10


def test_a_cancel_that_ends_the_process_is_heard_of_at_the_second_try(prefect_api: str) -> None:
    @flow
    def cancelled() -> list[bool]:
        ask(prefect_api, f"flow_runs/{flow_run.id}/set_state", {"state": {"type": "CANCELLING"}})
        with cutting_relay(prefect_api, times=2) as cut, temporary_settings({PREFECT_API_URL: cut}):
            is_cancelled = flow_cancellation()
            return [is_cancelled(), is_cancelled(now=True)]

    with temporary_settings({PREFECT_API_URL: prefect_api}):
        assert cancelled() == [False, True]
