"""What our Prefect server answers while its database is in trouble; 500 would make clients give up."""

import asyncio
from typing import Any

import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeout

from nemotron.flows.prefect_app import build_app


def status(app: Any, path: str) -> int:
    """The HTTP status of a GET."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }
    asyncio.run(app(scope, receive, send))
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    "error", [PoolTimeout("QueuePool limit reached"), FileNotFoundError(), ConnectionRefusedError()]
)
def test_it_is_unavailable_for_the_moment(error: Exception) -> None:
    app: Any = build_app()  # the same for all
    path = f"/{type(error).__name__}"

    @app.api_app.get(path)
    def trouble() -> None:
        raise error

    assert status(app, f"/api{path}") == 503
