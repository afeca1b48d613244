"""How a training script ends: its model directory, published with what it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from megatron.core.models.mamba.mamba_model import MambaModel

from nemo_runspec.artifacts import ArtifactTracking, ModelArtifact, log_artifact
from nemotron.recipes.nano3.model import ModelSettings, count_parameters, save_model
from nemotron.recipes.nano3.tokenizer import FILE_NAME


def publish_model(
    model: MambaModel,
    settings: ModelSettings,
    *,
    output_dir: Path,
    tokenizer_dir: Path,
    step: int,
    final_loss: float | None,
    metadata: dict[str, Any],
    tracking: ArtifactTracking,
) -> None:
    """Write `<output_dir>/model` and publish it. Call it on rank 0 only."""
    folder = save_model(output_dir / "model", model, settings, tokenizer_dir / FILE_NAME)
    log_artifact(
        ModelArtifact(
            path=folder,
            step=step,
            final_loss=final_loss,
            metadata={"num_parameters": count_parameters(model), **metadata},
        ),
        tracking,
    )
