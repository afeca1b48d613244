"""Which artifact store a project uses and whether W&B mirrors it; Prefect is imported only where a block says so.

`$NEMOTRON_STORE`, else `[artifacts] root` or `[artifacts] block` of env.toml, else the project's `.nemotron/artifacts`.
A block's mirror counts below what `[wandb]` and `run.wandb` say.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from nemo_runspec.env_file import FILE_NAME, load_env_file
from nemo_runspec.errors import ConfigError, RequirementError
from nemo_runspec.mirror.server import WandbServer
from nemo_runspec.mirror.settings import DEFAULT_URL
from nemo_runspec.store_location import absolute_location
from nemotron.blocks.prefect_api import prefect_api_url

SECTION = "artifacts"


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """`root` None is the project's own store; `wandb` are keys of `[wandb]`; `api_key` is a block's, for its server."""

    root: str | None = None
    wandb: Mapping[str, Any] = field(default_factory=dict)
    api_key: SecretStr | None = None

    def key_for(self, base_url: str) -> SecretStr | None:
        """The block's key, for the block's own server only."""
        own = str(self.wandb.get("base_url") or DEFAULT_URL)
        return self.api_key if base_url.rstrip("/") == own.rstrip("/") else None


def project_env_file(project_dir: Path) -> Path | None:
    """The project's own env.toml, None where another is in force: a worker runs a flow in another directory."""
    own = project_dir / FILE_NAME
    return own if own.is_file() and "NEMOTRON_ENV_FILE" not in os.environ else None


def wandb_table(project_dir: Path) -> dict[str, Any]:
    """`[wandb]` of the project's env.toml; empty without one."""
    return dict(load_env_file(project_env_file(project_dir)).get("wandb") or {})


def find_store_settings(project_dir: Path) -> StoreSettings:
    """What env.toml says, or the block it names; asked once a process.

    Raises:
        ConfigError: both `root` and `block`, or a block that there is not.
        RequirementError: a block is named and no Prefect server is configured, or it does not answer.
    """
    table = load_env_file(project_env_file(project_dir)).get(SECTION) or {}
    root, block = table.get("root"), table.get("block")
    for key, value in (("root", root), ("block", block)):
        if value is not None and not (isinstance(value, str) and value):
            raise ConfigError(f"{FILE_NAME}: [{SECTION}] {key} = {value!r}; expected text")
    if root and block:
        raise ConfigError(
            f"{FILE_NAME}: [{SECTION}] has both root and block; drop one, the block has a root of its own"
        )
    return _load_block(block) if block else StoreSettings(root=root)


def wandb_server(base_url: str, project_dir: Path) -> WandbServer:
    """The W&B server with the key that is meant for it: that of the store's block, else the environment's or netrc's.

    Raises as `find_store_settings`.
    """
    server = environment_server(base_url, project_dir)
    of_block = find_store_settings(project_dir).key_for(server.base_url)
    return replace(server, api_key=of_block) if of_block else server


def environment_server(base_url: str, project_dir: Path) -> WandbServer:
    """The same without the block."""
    own = wandb_table(project_dir).get("base_url")
    return WandbServer.at(base_url, own=own if isinstance(own, str) else None)


def project_store(project_dir: Path) -> str:
    """The path or URL of the project's store, that of env.toml or of its block; a relative path is below the project.

    Raises as `find_store_settings`.
    """
    return absolute_location(find_store_settings(project_dir).root or ".nemotron/artifacts", project_dir)


@lru_cache(maxsize=8)
def _load_block(reference: str) -> StoreSettings:
    url = prefect_api_url()
    if url is None:
        raise RequirementError(
            f"{FILE_NAME}: [{SECTION}] block = {reference!r} and no Prefect API is configured; set PREFECT_API_URL, "
            f"or give [{SECTION}] root and [wandb] instead"
        )
    try:
        from nemotron.blocks.artifact_stores import load_store_block
    except ImportError as error:
        raise RequirementError(
            f"{FILE_NAME}: [{SECTION}] block = {reference!r} and Prefect is not installed ({error}); "
            "pip install 'nemotron-flows[flows]'"
        ) from error
    return load_store_block(reference, url)
