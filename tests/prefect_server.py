"""A real Prefect server for tests."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from nemotron.flows.embedded_server import embedded_server


@contextmanager
def running_server(home: Path) -> Iterator[str]:
    """The API URL of a server with a database of its own under `home`, for the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with embedded_server(home / "server.log") as url:
            yield url


def ask(url: str, route: str, content: dict[str, Any] | None = None) -> Any:
    """What the server of that API URL answers; without content to a GET."""
    body = None if content is None else json.dumps(content).encode()
    request = Request(f"{url}/{route}", data=body, headers={"content-type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)
