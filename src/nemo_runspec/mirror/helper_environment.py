"""The environment of the helper process: nothing of this process's W&B settings but the way to the server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nemo_runspec
from nemo_runspec.mirror.server import WandbServer

_KEPT = frozenset({"WANDB_HTTP_PROXY", "WANDB_HTTPS_PROXY", "WANDB_X_EXTRA_HTTP_HEADERS", "WANDB_INSECURE_DISABLE_SSL"})
_SETTINGS = {
    "WANDB_MODE": "online",
    "WANDB_SILENT": "true",
    "WANDB_CONSOLE": "off",
    "WANDB_DISABLE_CODE": "true",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_INIT_TIMEOUT": "30",
    # The helper's machine and packages are not those that trained.
    "WANDB_X_DISABLE_META": "true",
    "WANDB_X_DISABLE_STATS": "true",
    "WANDB_X_DISABLE_MACHINE_INFO": "true",
    "WANDB_X_SAVE_REQUIREMENTS": "false",
    # Seconds; by default the client waits for minutes, longer than whoever asks does.
    "WANDB_X_GRAPHQL_TIMEOUT_SECONDS": "20",
    "WANDB_X_GRAPHQL_RETRY_WAIT_MIN_SECONDS": "1",
    "WANDB_X_GRAPHQL_RETRY_WAIT_MAX_SECONDS": "5",
    "WANDB_X_FILE_STREAM_RETRY_WAIT_MIN_SECONDS": "1",
    "WANDB_X_FILE_STREAM_RETRY_WAIT_MAX_SECONDS": "5",
    "WANDB_X_FILE_TRANSFER_RETRY_WAIT_MIN_SECONDS": "1",
    "WANDB_X_FILE_TRANSFER_RETRY_WAIT_MAX_SECONDS": "5",
}
_DIRECTORIES = ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR")


def helper_environment(environment: Mapping[str, str], *, server: WandbServer, directory: Path) -> dict[str, str]:
    """What the helper starts with; all that `wandb` writes goes below `directory`."""
    inherited = {name: value for name, value in environment.items() if not name.startswith("WANDB_") or name in _KEPT}
    sources = str(Path(nemo_runspec.__path__[0]).parent)
    return {
        **inherited,
        **_SETTINGS,
        **dict.fromkeys(_DIRECTORIES, str(directory)),
        "WANDB_BASE_URL": server.base_url,
        "WANDB_API_KEY": server.api_key.get_secret_value() if server.api_key else "",
        "PYTHONPATH": ":".join(filter(None, [sources, environment.get("PYTHONPATH")])),
    }
