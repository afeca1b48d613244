# /// script
# [tool.runspec]
# schema = "1"
# name = "nano3/pretrain"
# docs = "Train nano3 from scratch: megatron-core here (tiny), Megatron-Bridge on a cluster (default)."
# image = "nvcr.io/nvidia/nemo:25.11.nemotron_3_nano"
# [tool.runspec.run]
# launch = "torchrun"
# [tool.runspec.resources]
# nodes = 1
# gpus_per_node = 8
# [tool.runspec.artifacts]
# inputs = { data = "PretrainDataArtifact" }
# output = { name = "nano3-pretrain-model", type = "ModelArtifact" }
# ///
"""Pretraining of nano3; see `docs` above."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from nemo_runspec.artifacts import log_artifact, setup_artifact_tracking
from nemo_runspec.script import load_train_config, run_script
from nemotron.recipes.nano3.distributed import process_group
from nemotron.recipes.nano3.model import ModelSettings, build_model
from nemotron.recipes.nano3.pretrain_batches import build_readers
from nemotron.recipes.nano3.publishing import train_and_publish
from nemotron.recipes.nano3.settings import parse_settings
from nemotron.recipes.nano3.tokenizer import load_tokenizer
from nemotron.recipes.nano3.training import LoopSettings


class PretrainSettings(LoopSettings):
    """All that train.yaml says; `data_dir` is a pretraining data artifact."""

    backend: Literal["megatron-core"]
    data_dir: Path
    model: ModelSettings


def main(config_path: Path) -> None:
    """Train, evaluate, publish the model."""
    config = load_train_config(config_path)
    tracking = setup_artifact_tracking(config)
    if config.get("backend") == "bridge":
        from nemotron.recipes.nano3.bridge import train_with_bridge

        log_artifact(train_with_bridge(config, output_dir=Path(config["output_dir"]), finetune=False), tracking)
        return
    settings = parse_settings(PretrainSettings, config, origin=str(config_path))
    tokenizer = load_tokenizer(settings.data_dir)
    model_settings = settings.model.model_copy(update={"vocab_size": tokenizer.get_vocab_size()})
    with process_group() as world:
        model = build_model(model_settings, seed=settings.train.seed)
        read_train, read_valid = build_readers(
            settings.data_dir,
            tokenizer,
            train=settings.train,
            seq_length=model_settings.seq_length,
            cache_dir=settings.output_dir / "index-cache",
        )
        train_and_publish(
            model,
            model_settings,
            read_train=read_train,
            read_valid=read_valid,
            settings=settings,
            tokenizer_dir=settings.data_dir,
            world=world,
            tracking=tracking,
        )


if __name__ == "__main__":
    run_script(main)
