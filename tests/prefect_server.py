"""A real Prefect server for tests."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
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


def ask(url: str, route: str, content: Any = None, *, method: str | None = None, authorization: str = "") -> Any:
    """What the server of that API URL answers to a GET, or to a POST of the content; asked again while it is busy."""
    body = None if content is None else json.dumps(content).encode()
    headers = {"Content-Type": "application/json", "Authorization": authorization}
    request = Request(f"{url}/{route}", data=body, headers=headers, method=method)
    pauses_s = iter((1, 2, 4, 8, 8, 8))  # as Prefect's clients do
    while True:
        try:
            with urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or "null")
        except (URLError, ConnectionResetError) as error:
            pause_s = next(pauses_s, 0)
            if not pause_s or not (is_busy(error) or (is_question(route, content) and is_cut(error))):
                raise
            time.sleep(pause_s)


def is_busy(error: Exception) -> bool:
    return isinstance(error, HTTPError) and error.code == HTTPStatus.SERVICE_UNAVAILABLE


def is_question(route: str, content: Any) -> bool:
    """Whether asking twice changes nothing."""
    return content is None or route.endswith(("/filter", "/count"))


def is_cut(error: Exception) -> bool:
    """A connection that ended meanwhile; where it is refused nobody is there."""
    return isinstance(getattr(error, "reason", error), ConnectionResetError)
