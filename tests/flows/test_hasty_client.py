import socket
import time

import httpx
import pytest
from prefect.context import SyncClientContext
from prefect.settings import PREFECT_API_URL, temporary_settings

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
