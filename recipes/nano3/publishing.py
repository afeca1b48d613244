"""What pretraining and SFT do alike once model and batches are there: train, evaluate, publish the model directory."""

from __future__ import annotations

from pathlib import Path

from megatron.core.models.mamba.mamba_model import MambaModel

from nemo_runspec.artifacts import ArtifactTracking, ModelArtifact, log_artifact
from nemotron.recipes.nano3.distributed import World
from nemotron.recipes.nano3.model import ModelSettings, count_parameters, save_model
from nemotron.recipes.nano3.tokenizer import FILE_NAME
from nemotron.recipes.nano3.training import BatchReader, LoopSettings, evaluate, train


def train_and_publish(
    model: MambaModel,
    model_settings: ModelSettings,
    *,
    read_train: BatchReader,
    read_valid: BatchReader,
    settings: LoopSettings,
    tokenizer_dir: Path,
    world: World,
    tracking: ArtifactTracking,
) -> None:
    """Train to the end, measure the loss on held-out data, publish `<output_dir>/model`. Call it on every rank."""
    loss = train(
        model,
        read_train,
        train=settings.train,
        optimizer=settings.optimizer,
        checkpoint=settings.checkpoint,
        output_dir=settings.output_dir,
        world=world,
    )
    valid_loss = evaluate(model, read_valid, train=settings.train, world=world)
    if not world.is_main:
        return
    artifact = ModelArtifact(
        path=save_model(settings.output_dir / "model", model, model_settings, tokenizer_dir / FILE_NAME),
        step=settings.train.train_iters,
        final_loss=loss,
        metadata={"valid_loss": valid_loss, "num_parameters": count_parameters(model)},
    )
    log_artifact(artifact, tracking)
