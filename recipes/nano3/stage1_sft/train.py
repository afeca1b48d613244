# /// script
# [tool.runspec]
# schema = "1"
# name = "nano3/sft"
# docs = "Fine-tune nano3 on conversations: megatron-core here (tiny), Megatron-Bridge on a cluster (default)."
# image = "nvcr.io/nvidia/nemo:25.11.nemotron_3_nano"
# [tool.runspec.run]
# launch = "torchrun"
# [tool.runspec.resources]
# nodes = 1
# gpus_per_node = 8
# [tool.runspec.artifacts]
# inputs = { data = "SFTDataArtifact", model = "ModelArtifact" }
# output = { name = "nano3-sft-model", type = "ModelArtifact" }
# ///
"""Supervised fine-tuning of nano3; see `docs` above."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from nemo_runspec.artifacts import log_artifact, setup_artifact_tracking
from nemo_runspec.script import load_train_config, run_script
from nemotron.recipes.nano3.distributed import process_group
from nemotron.recipes.nano3.model import load_model
from nemotron.recipes.nano3.packed_batches import build_batch
from nemotron.recipes.nano3.packing import PackedRow, load_rows
from nemotron.recipes.nano3.publishing import train_and_publish
from nemotron.recipes.nano3.settings import parse_settings
from nemotron.recipes.nano3.shuffling import item_at
from nemotron.recipes.nano3.tokenizer import PAD, check_same_tokenizer, load_tokenizer, special_id
from nemotron.recipes.nano3.training import Batch, BatchReader, LoopSettings


class SftSettings(LoopSettings):
    """All that train.yaml says; `pack_size` is the data's."""

    backend: Literal["megatron-core"]
    data_dir: Path
    pack_size: int = Field(ge=1)
    model_dir: Path


def build_reader(rows: list[PackedRow], *, pack_size: int, pad_id: int, seed: int) -> BatchReader:
    """Reads rows in a new order each epoch."""

    def read(numbers: range) -> Batch:
        chosen = [rows[item_at(number, num_items=len(rows), seed=seed)] for number in numbers]
        return build_batch(chosen, pack_size=pack_size, pad_id=pad_id)

    return read


def main(config_path: Path) -> None:
    """Fine-tune, evaluate on held-out conversations, publish the model."""
    config = load_train_config(config_path)
    tracking = setup_artifact_tracking(config)
    if config.get("backend") == "bridge":
        from nemotron.recipes.nano3.bridge import train_with_bridge

        log_artifact(train_with_bridge(config, output_dir=Path(config["output_dir"]), finetune=True), tracking)
        return
    settings = parse_settings(SftSettings, config, origin=str(config_path))
    check_same_tokenizer(settings.data_dir, settings.model_dir)
    pad_id = special_id(load_tokenizer(settings.model_dir), PAD)
    read_train, read_valid = (
        build_reader(
            load_rows(settings.data_dir / f"{split}.parquet"),
            pack_size=settings.pack_size,
            pad_id=pad_id,
            seed=settings.train.seed,
        )
        for split in ("train", "valid")
    )
    with process_group() as world:
        model, model_settings = load_model(settings.model_dir)
        train_and_publish(
            model,
            model_settings,
            read_train=read_train,
            read_valid=read_valid,
            settings=settings,
            tokenizer_dir=settings.model_dir,
            world=world,
            tracking=tracking,
        )


if __name__ == "__main__":
    run_script(main)
