"""What went wrong with the W&B server, in one line for a person: `wandb` says little, so the server is asked.

Runs in the helper process, which has the server's URL and key in its environment.
"""

from __future__ import annotations

import os
import ssl
import time
from typing import Any
from urllib.error import HTTPError, URLError

from pydantic import SecretStr

from nemo_runspec.errors import MirrorError
from nemo_runspec.mirror.probe import ask_user
from nemo_runspec.mirror.server import LATER, WandbServer

WANDB_MISSING = (
    "W&B needs the Python package wandb, which is not installed here; install it with "
    f"pip install 'nemotron-flows[wandb]', {LATER}"
)
_NUM_TRIES = 3
_PAUSE_S = 1.0
_MAX_TEXT = 300
_NAMELESS = dict.fromkeys(("HandleAbandonedError", "MailboxClosedError"), "wandb-core ended")


def no_key(base_url: str) -> MirrorError:
    """That there is no API key for the server."""
    return MirrorError(
        f"no API key for W&B server {base_url}; set WANDB_API_KEY, or store one with `wandb login --host {base_url}`, "
        f"{LATER}",
        server_wide=True,
    )


def check(_: dict[str, Any]) -> dict[str, Any]:
    """The helper's task `check`: that `wandb` is there, and the server with the key.

    Raises:
        MirrorError: the server cannot be reached or refuses the key.
    """
    import wandb

    for attempt in range(1, _NUM_TRIES + 1):
        fault = _server_fault()
        if not isinstance(fault and fault.__cause__, HTTPError) or attempt == _NUM_TRIES:
            break
        time.sleep(_PAUSE_S)
    if fault is not None:
        raise fault
    return {"wandb": wandb.__version__}


def explain(error: Exception) -> MirrorError:
    """What a failure of `wandb` means: the server's state if that is the reason, else what the error says."""
    if fault := _server_fault():
        return fault
    text = " ".join(str(error).split())[:_MAX_TEXT] or _NAMELESS.get(type(error).__name__, type(error).__name__)
    if "permission" in text.lower() or "403" in text:
        return MirrorError(
            f"W&B {_server().base_url} denied permission: {text}; ask for write access to the project, or name another "
            f"entity or project in [wandb], {LATER}"
        )
    return MirrorError(f"W&B {_server().base_url}: {text}; look at the run there, {LATER}")


def _server_fault() -> MirrorError | None:
    """Why nothing can be asked of the server, None if something can."""
    try:
        ask_user(_server())
    except MirrorError as error:
        # `wandb` may have certificates of its own, or be told to do without.
        return None if _is_about_certificates(error.__cause__) else error
    return None


def _is_about_certificates(error: BaseException | None) -> bool:
    return isinstance(error, URLError) and isinstance(error.reason, ssl.SSLError)


def _server() -> WandbServer:
    return WandbServer(base_url=os.environ["WANDB_BASE_URL"], api_key=SecretStr(os.environ["WANDB_API_KEY"]))
