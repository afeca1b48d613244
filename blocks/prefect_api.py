"""Which Prefect API is configured, and single questions to it, with the standard library only: Prefect takes seconds.

A server is never started here, and nothing is asked twice.
"""

from __future__ import annotations

import json
import os
import threading
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_runspec.errors import RequirementError

ANSWER_TIMEOUT_S = 1.0


def prefect_api_url() -> str | None:
    """The API URL of `PREFECT_API_URL` or of the active Prefect profile, None without one. Imports no Prefect."""
    return _setting("PREFECT_API_URL")


def ask_prefect(
    path: str, question: Mapping[str, Any] | None = None, *, url: str, timeout_s: float = ANSWER_TIMEOUT_S
) -> Any:
    """The answer of the API at `url` to one GET, or to one POST of the question, within that time.

    Raises:
        RequirementError: no answer in that time, or not one in JSON.
    """
    if not url.startswith(("http://", "https://")):
        raise RequirementError(f"Prefect API {url}: expected http://HOST:PORT/api; correct PREFECT_API_URL")
    answers: list[Any] = []
    # Looking up a host's name may take minutes, and nothing bounds it.
    thread = threading.Thread(target=_ask, args=(path, question, url, timeout_s, answers), daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not answers:
        raise RequirementError(f"Prefect API {url} does not answer within {timeout_s:g} s")
    if isinstance(answers[0], Exception):
        raise RequirementError(f"Prefect API {url} {_describe(answers[0])}") from answers[0]
    return answers[0]


def _ask(path: str, question: Mapping[str, Any] | None, url: str, timeout_s: float, answers: list[Any]) -> None:
    import urllib.request  # 40 ms

    try:
        body = None if question is None else json.dumps(question).encode()
        request = urllib.request.Request(
            f"{url.rstrip('/')}/{path}", data=body, headers={"Content-Type": "application/json"}
        )
        if authorization := _authorization():
            request.add_unredirected_header("Authorization", authorization)  # it must not reach another host
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            answers.append(json.load(response))
    except Exception as error:  # handed to the thread that asked
        answers.append(error)


def _describe(error: Exception) -> str:
    from urllib.error import HTTPError, URLError

    if isinstance(error, HTTPError):
        return f"answered {error.code} {error.reason}"
    if isinstance(error, ValueError):  # also json.JSONDecodeError
        return "does not answer as one; it should end in /api"
    reason = error.reason if isinstance(error, URLError) else error
    return f"does not answer: {reason or type(error).__name__}"


def _authorization() -> str | None:
    """As Prefect's client sends it."""
    import base64

    if basic := _setting("PREFECT_API_AUTH_STRING"):
        return f"Basic {base64.b64encode(basic.encode()).decode()}"
    key = _setting("PREFECT_API_KEY")
    return f"Bearer {key}" if key else None


def _setting(name: str) -> str | None:
    """The variable, else what the active Prefect profile says, None without both."""
    if value := os.environ.get(name):
        return value
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml").expanduser()
    try:
        stored = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # Prefect itself tells of a file that it cannot read
        return None
    profiles = stored.get("profiles")
    active = os.environ.get("PREFECT_PROFILE") or stored.get("active")
    settings = profiles.get(active) if isinstance(profiles, Mapping) else None
    return str(settings.get(name) or "") or None if isinstance(settings, Mapping) else None
