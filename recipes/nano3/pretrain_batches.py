"""Batches of a Megatron blend, through megatron-core's own blended GPT data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
from tokenizers import Tokenizer

from nemotron.recipes.nano3.indexed_data import load_blend
from nemotron.recipes.nano3.tokenizer import END_OF_TEXT, PAD, special_id
from nemotron.recipes.nano3.training import Batch, BatchReader, TrainSettings


def build_readers(
    data_dir: Path, tokenizer: Tokenizer, *, train: TrainSettings, seq_length: int, cache_dir: Path
) -> tuple[BatchReader, BatchReader]:
    """Readers of the train and the valid split, with as many samples as the run will read; a process group is up."""
    blend = load_blend(data_dir)
    config = GPTDatasetConfig(
        random_seed=train.seed,
        sequence_length=seq_length,
        blend_per_split=[blend["train"], blend["valid"], None],
        path_to_cache=str(cache_dir),
        tokenizer=describe_tokenizer(tokenizer),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
        mid_level_dataset_surplus=0.005,
    )
    sizes = [train.train_iters * train.global_batch_size, train.eval_iters * train.global_batch_size, 0]
    train_set, valid_set, _ = BlendedMegatronDatasetBuilder(GPTDataset, sizes, _on_every_rank, config).build()
    return build_reader(train_set), build_reader(valid_set)


def build_reader(dataset: Any) -> Callable[[range], Batch]:
    """A reader of the data set's samples by number."""

    def read(numbers: range) -> Batch:
        samples = [dataset[number] for number in numbers]
        return Batch(
            tokens=torch.stack([sample["tokens"] for sample in samples]),
            labels=torch.stack([sample["labels"] for sample in samples]),
            positions=torch.stack([sample["position_ids"] for sample in samples]),
            loss_mask=torch.stack([sample["loss_mask"] for sample in samples]),
        )

    return read


def describe_tokenizer(tokenizer: Tokenizer) -> SimpleNamespace:
    """What megatron-core's data sets ask of a tokenizer."""
    return SimpleNamespace(
        vocab_size=tokenizer.get_vocab_size(),
        eod=special_id(tokenizer, END_OF_TEXT),
        pad=special_id(tokenizer, PAD),
        unique_identifiers={"vocab": str(tokenizer.get_vocab_size())},
    )


def _on_every_rank() -> bool:
    return True
