"""`python -m nemotron.flows.prefect_app FD`: Prefect's server on a socket that listens already.

Four things differ from `prefect server start` (3.8.8). That opens a socket of its own, so that connections are refused
while it starts again; here they wait. `uvicorn --fd`, which could take ours, treats it as a Unix one, and each answer
takes 40 ms longer. Prefect answers 500 while there is no database to connect to, or no free connection to it, at which
clients give up; here that is 503, and they try again. And its UI has every browser ask amplitude.com, analytics or not;
here the browser is told to ask nobody but the server.
"""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

CANNOT_START = 3  # as uvicorn.main.STARTUP_FAILURE
GRACE_S = 5
"""Seconds that open connections have to end, as those of workers and browsers do not by themselves."""
logger = logging.getLogger(__name__)

Message = dict[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


def main(argv: list[str]) -> int:
    """Serve until SIGTERM."""
    import uvicorn
    from prefect.settings import get_current_settings

    settings = get_current_settings().server
    api_url = settings.ui.api_url or ""
    config = uvicorn.Config(
        with_policy(build_app(), f"connect-src 'self' {api_url if '://' in api_url else ''}".strip()),
        timeout_keep_alive=settings.api.keepalive_timeout,
        ws_ping_interval=settings.api.websocket_ping_interval,
        ws_ping_timeout=settings.api.websocket_ping_timeout,
        timeout_graceful_shutdown=GRACE_S,
        log_level=settings.logging_level.lower(),
        lifespan="on",
    )
    server = uvicorn.Server(config)
    server.run(sockets=[socket.socket(fileno=int(argv[0]))])
    return 0 if server.started else CANNOT_START


def build_app() -> App:
    """Prefect's application; its API says that it is unavailable where the database cannot be reached."""
    from prefect.server.api.server import create_app
    from sqlalchemy.exc import TimeoutError as PoolTimeout
    from starlette.requests import Request
    from starlette.responses import JSONResponse

    async def say_unavailable(request: Request, error: Exception) -> JSONResponse:
        logger.warning("%s: %s", request.url.path, error)
        return JSONResponse({"exception_message": "Service Unavailable"}, status_code=503)

    app: Any = create_app(final=True)
    # FileNotFoundError: its socket is not there; TimeoutError: it, or a connection to it, is not free in time.
    for kind in (ConnectionError, FileNotFoundError, TimeoutError, PoolTimeout):
        app.api_app.add_exception_handler(kind, say_unavailable)
    return app  # type: ignore[no-any-return]  # create_app's type lacks what it sets


def with_policy(app: App, policy: str) -> App:
    """The application, whose pages have browsers keep to a Content-Security-Policy."""

    async def answer(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", policy.encode())]
            await send(message)

        await app(scope, receive, send_with_policy)

    return answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
