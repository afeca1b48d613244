"""What went wrong with the W&B server, in one line for a person: `wandb` says little, so the server is asked.

Runs in the helper process, which has the server's URL and key in its environment.
"""

from __future__ import annotations

import os
import re
import time
from typing import Any
from urllib.error import HTTPError

from pydantic import SecretStr

from nemo_runspec.errors import MirrorError
from nemo_runspec.mirror.probe import find_fault
from nemo_runspec.mirror.server import LATER, WandbServer

WANDB_MISSING = (
    "W&B needs the Python package wandb, which is not installed here; install it with "
    f"pip install 'nemotron-flows[wandb]', {LATER}"
)
_NUM_TRIES = 3
_PAUSE_S = 1.0
_MAX_TEXT = 300
_LOCAL_REFUSAL = re.compile(r"\[Errno 13\]|(^|\s)/\S*: permission denied")
_NAMELESS = dict.fromkeys(("HandleAbandonedError", "MailboxClosedError"), "wandb-core ended")


def check(_: dict[str, Any]) -> dict[str, Any]:
    """The helper's task `check`: that `wandb` is there, and the server with the key.

    Raises:
        MirrorError: the server cannot be reached or refuses the key.
    """
    import wandb

    for attempt in range(1, _NUM_TRIES + 1):
        fault = find_fault(_server())
        if not isinstance(fault and fault.__cause__, HTTPError) or attempt == _NUM_TRIES:
            break
        time.sleep(_PAUSE_S)
    if fault is not None:
        raise fault
    return {"wandb": wandb.__version__}


def explain(error: Exception) -> MirrorError:
    """What a failure of `wandb` means: the server's state if that is the reason, else what the error says."""
    text = " ".join(str(error).split())[:_MAX_TEXT] or _NAMELESS.get(type(error).__name__, type(error).__name__)
    if _is_local(error, text):
        return MirrorError(f"{text}; correct that on this machine, {LATER}")
    if fault := find_fault(_server()):
        return fault
    if "permission" in text.lower() or "403" in text:
        return MirrorError(
            f"W&B {_server().base_url} denied permission: {text}; ask for write access to the project, or name another "
            f"entity or project in [wandb], {LATER}"
        )
    return MirrorError(f"W&B {_server().base_url}: {text}; look at the run there, {LATER}")


def _is_local(error: Exception, text: str) -> bool:
    """Whether it is about a file of this machine, in Python's words or in those of W&B's own process."""
    is_about_file = isinstance(error, OSError) and error.errno is not None and error.filename is not None
    return is_about_file or _LOCAL_REFUSAL.search(text) is not None


def _server() -> WandbServer:
    return WandbServer(base_url=os.environ["WANDB_BASE_URL"], api_key=SecretStr(os.environ["WANDB_API_KEY"]))
