"""Typed artifacts: what a recipe script declares about the directory or file it made.

The typed fields are mirrored into `metadata`, from where `${art:SLOT,FIELD}` and the summary read them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_BASE_FIELDS = frozenset({"path", "type", "name", "metadata", "created_at"})


class InputDatasetInfo(BaseModel):
    """One source of a data set. `uri` is a path or URL; `weight` is relative to the other sources'."""

    model_config = ConfigDict(extra="forbid")

    name: str
    uri: str
    weight: float = 1.0
    num_rows: int | None = None
    size_bytes: int | None = None
    sha256: str | None = None


class Artifact(BaseModel):
    """Output of a script at `path`; `type` is the class's name, `name` what it is published as by default."""

    model_config = ConfigDict(extra="forbid")

    path: Path
    type: str = ""
    name: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @model_validator(mode="after")
    def _mirror_fields(self) -> Self:
        self.type = self.type or self.__class__.__name__
        self.metadata = {**self.metadata, **self.model_dump(mode="json", exclude=set(_BASE_FIELDS))}
        return self


class ModelArtifact(Artifact):
    """A checkpoint after `step` optimizer steps; `final_loss` is what the stage minimized."""

    step: int = Field(ge=0)
    final_loss: float | None = None

    @model_validator(mode="after")
    def _mirror_iteration(self) -> Self:
        self.metadata["iteration"] = self.step
        return self


class PretrainDataArtifact(Artifact):
    """Megatron indexed data with its tokenizer."""

    total_tokens: int = Field(ge=0)
    total_sequences: int = Field(ge=0)
    elapsed_sec: float = 0.0
    num_shards: int = Field(ge=1)
    source_datasets: list[InputDatasetInfo] = Field(default_factory=list)
    tokenizer_uri: str | None = None


class DataBlendsArtifact(Artifact):
    """A mixture of data sets; `path` is its blend.json."""

    total_tokens: int = Field(ge=0)
    total_sequences: int = Field(ge=0)
    elapsed_sec: float = 0.0
    train_tokens: int | None = None
    valid_tokens: int | None = None
    test_tokens: int | None = None
    source_datasets: list[InputDatasetInfo] = Field(default_factory=list)
    tokenizer_uri: str | None = None


class PretrainBlendsArtifact(PretrainDataArtifact):
    """Pretraining data with the blend.json that says what of it is for training, validation and testing."""

    blend_path: str | None = None
    train_tokens: int | None = None
    valid_tokens: int | None = None
    test_tokens: int | None = None


class EnergonWebDatasetArtifact(Artifact):
    """Multimodal data in the WebDataset shards that Megatron-Energon reads."""

    train_samples: int = 0
    val_samples: int = 0
    test_samples: int = 0
    num_shards: int = 0
    elapsed_sec: float = 0.0
    data_format: str | None = None
    source_datasets: list[InputDatasetInfo] = Field(default_factory=list)

    @property
    def total_samples(self) -> int:
        """Those of all splits."""
        return self.train_samples + self.val_samples + self.test_samples


class SFTDataArtifact(Artifact):
    """Packed chat data; each row has `pack_size` tokens."""

    total_tokens: int = Field(ge=0)
    total_sequences: int = Field(ge=0)
    elapsed_sec: float = 0.0
    pack_size: int = Field(ge=1)
    source_datasets: list[InputDatasetInfo] = Field(default_factory=list)
    tokenizer_uri: str | None = None


class SplitJsonlDataArtifact(Artifact):
    """Prompts with their answers in JSONL files, one a split."""

    total_sequences: int = Field(ge=0)
    elapsed_sec: float = 0.0
    source_datasets: list[InputDatasetInfo] = Field(default_factory=list)
