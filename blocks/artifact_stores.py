"""Artifact stores as Prefect blocks: which store a pipeline publishes to, and whether W&B mirrors it.

`LocalArtifactStore` alone, `WandbArtifactStore` mirrored while the pipeline runs, `WandbOffline` mirrored later. Each
tells its `StoreSettings`; nothing is opened here.
"""

from __future__ import annotations

from typing import Any, ClassVar

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.errors import ConfigError
from nemotron.blocks.store_settings import StoreSettings

ROOT = "Directory or URL (s3://bucket/prefix) of the store; the project's own .nemotron/artifacts where empty"


class WandbCredentials(Block):
    """A W&B server and the key to it."""

    _block_type_name: ClassVar[str | None] = "WandB credentials"
    _block_type_slug: ClassVar[str | None] = "wandb-credentials"
    _description: ClassVar[str | None] = "API key of a W&B server."

    api_key: SecretStr = Field(description="API key, from https://wandb.ai/authorize")
    base_url: str = Field(default="https://api.wandb.ai", description="URL of the server's API")


class StoreBlock(Block):
    """What all stores have in common."""

    root: str = Field(default="", description=ROOT)

    def settings(self) -> StoreSettings:
        """The store and its mirror."""
        return StoreSettings(root=self.root or None)

    def open(self) -> ArtifactStore:
        """The store under `root`.

        Raises:
            ConfigError: the block names none, so that only a project knows which is meant.
            StoreError: it cannot be read.
        """
        if not self.root:
            raise ConfigError(
                f"{type(self).__name__}: root is empty; name a directory or URL, or open the project's own"
            )
        return ArtifactStore(self.root)


class LocalArtifactStore(StoreBlock):
    """A store without a mirror."""

    _block_type_name: ClassVar[str | None] = "Artifact store"
    _block_type_slug: ClassVar[str | None] = "local-artifact-store"
    _description: ClassVar[str | None] = "Artifacts in a directory or a bucket, without W&B."


class _MirroredStore(StoreBlock):
    entity: str | None = Field(default=None, description="W&B team or user; the key's default one where empty")
    project: str = Field(description="W&B project")

    def _mirrored(self, wandb: dict[str, Any], api_key: SecretStr | None) -> StoreSettings:
        table = {"entity": self.entity, "project": self.project, **wandb}
        known = {key: value for key, value in table.items() if value is not None}
        return StoreSettings(root=self.root or None, wandb=known, api_key=api_key)


class WandbArtifactStore(_MirroredStore):
    """A store whose artifacts are on W&B a moment later, with lineage and metrics."""

    _block_type_name: ClassVar[str | None] = "Artifact store with WandB"
    _block_type_slug: ClassVar[str | None] = "wandb-artifact-store"
    _description: ClassVar[str | None] = "Artifacts in a directory or a bucket, mirrored on W&B while stages run."

    credentials: WandbCredentials | None = Field(
        default=None, description="The server and its key; WANDB_API_KEY and WANDB_BASE_URL where empty"
    )
    required: bool = Field(default=False, description="Fail a stage whose artifact W&B does not take")
    timeout_s: float = Field(default=120.0, gt=0, description="Seconds that a stage's artifact may take to be sent")

    def settings(self) -> StoreSettings:
        """The store and its mirror."""
        server = {"base_url": self.credentials.base_url if self.credentials else None}
        wandb = {"mode": "online", "required": self.required, "timeout_s": self.timeout_s, **server}
        return self._mirrored(wandb, self.credentials.api_key if self.credentials else None)


class WandbOffline(_MirroredStore):
    """A store whose artifacts wait for `nemotron artifacts sync`; nothing is sent while stages run."""

    _block_type_name: ClassVar[str | None] = "Artifact store with WandB later"
    _block_type_slug: ClassVar[str | None] = "wandb-offline"
    _description: ClassVar[str | None] = "Artifacts in a directory or a bucket, mirrored on W&B by a command of yours."

    base_url: str | None = Field(default=None, description="URL of the W&B server that they will be sent to")

    def settings(self) -> StoreSettings:
        """The store and its mirror."""
        return self._mirrored({"mode": "offline", "base_url": self.base_url}, None)


STORE_BLOCKS: tuple[type[StoreBlock], ...] = (LocalArtifactStore, WandbArtifactStore, WandbOffline)


def load_store_block(reference: str, url: str) -> StoreSettings:
    """The settings in the block `<type>/<name>` of the Prefect server at `url`.

    Raises:
        ConfigError: no such type or block.
        RequirementError: the server does not answer.
    """
    from nemotron.blocks.env_profile import prefect_client

    kinds = {str(kind.get_block_type_slug()): kind for kind in STORE_BLOCKS}
    slug, _, name = reference.partition("/")
    if slug not in kinds or not name:
        raise ConfigError(f"artifact store block {reference!r}: expected TYPE/NAME with TYPE one of {', '.join(kinds)}")
    with prefect_client(url):
        try:
            block = kinds[slug].load(name)
        except ValueError as error:  # Prefect's own "Unable to find block document"
            raise ConfigError(
                f"artifact store block {reference!r} is not on {url}; create it there, or name another in [artifacts]"
            ) from error
    assert isinstance(block, StoreBlock)
    return block.settings()
