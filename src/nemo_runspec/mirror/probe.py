"""Whether a W&B server answers and knows the key: one question over HTTP; the client takes long to give up.

It knows no proxies, headers and certificates that are the client's alone; a failure that may be due to that says
nothing.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError

from nemo_runspec.errors import MirrorError
from nemo_runspec.mirror.server import LATER, WandbServer, no_key

PROBE_TIMEOUT_S = 10.0
_CLIENT_S_OWN_WAY = ("WANDB_HTTP_PROXY", "WANDB_HTTPS_PROXY", "WANDB_X_EXTRA_HTTP_HEADERS")
_QUERY = "query Viewer { viewer { username entity } }"


def ask_user(server: WandbServer, *, timeout_s: float = PROBE_TIMEOUT_S) -> str:
    """The name of the user whose key it is.

    Raises:
        MirrorError: no key, no answer in `timeout_s` seconds, or the server does not know the key.
    """
    if server.api_key is None:
        raise no_key(server.base_url)
    answer = _ask(server, server.api_key.get_secret_value(), timeout_s)
    viewer = ((answer.get("data") or {}).get("viewer") or {}) if isinstance(answer, dict) else {}
    if not viewer.get("username"):
        raise MirrorError(
            f"W&B {server.base_url}: the API key is not known there; set another WANDB_API_KEY, {LATER}",
            server_wide=True,
        )
    return str(viewer["username"])


def find_fault(server: WandbServer) -> MirrorError | None:
    """Why nothing can be asked of the server; None if something can, or if only W&B's client can tell."""
    try:
        ask_user(server)
    except MirrorError as error:
        return None if only_client_can_tell(server, error) else error
    return None


def only_client_can_tell(server: WandbServer, error: MirrorError) -> bool:
    """Whether the client may get an answer where `ask_user` raised the error."""
    has_own_way = any(os.environ.get(name) for name in _CLIENT_S_OWN_WAY)
    return server.api_key is not None and (has_own_way or _is_about_certificates(error.__cause__))


def _is_about_certificates(error: BaseException | None) -> bool:
    return isinstance(error, URLError) and isinstance(error.reason, ssl.SSLError)


def _ask(server: WandbServer, key: str, timeout_s: float) -> Any:
    login = base64.b64encode(f"api:{key}".encode()).decode()
    try:
        request = urllib.request.Request(
            f"{server.base_url}/graphql",
            data=json.dumps({"query": _QUERY, "variables": {}}).encode(),
            headers={"Content-Type": "application/json"},
        )
        request.add_unredirected_header("Authorization", f"Basic {login}")  # it must not reach another host
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return json.load(response)
    except HTTPError as error:
        error.close()
        if error.code in (401, 403):
            return None
        raise _no_answer(server, f"answered {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise _no_answer(server, f"does not answer: {getattr(error, 'reason', None) or error}") from error


def _no_answer(server: WandbServer, what: str) -> MirrorError:
    return MirrorError(f"W&B {server.base_url} {what}; wait until it does, {LATER}", server_wide=True)
