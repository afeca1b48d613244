"""Megatron's indexed data: `<prefix>.bin` with token ids, `<prefix>.idx` with document bounds; and the blend over them.

Written by megatron-core's own builder, so any Megatron tool reads it. `blend.json` names the files relative to itself,
in Megatron's flat form: {"train": [weight, prefix, weight, prefix, …], "valid": […]}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder
from tokenizers import Tokenizer

from nemo_runspec.errors import DataError
from nemotron.recipes.nano3.tokenizer import END_OF_TEXT, special_id

BLEND_NAME = "blend.json"


def write_indexed(prefix: Path, documents: Sequence[str], tokenizer: Tokenizer) -> int:
    """Write the documents, each closed by the end-of-text token; returns the number of tokens."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    end = special_id(tokenizer, END_OF_TEXT)
    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=DType.optimal_dtype(tokenizer.get_vocab_size()))
    num_tokens = 0
    tokenizer.encode_special_tokens = True  # text that spells a special token stays text
    for encoding in tokenizer.encode_batch_fast(list(documents), add_special_tokens=False):
        ids = [*encoding.ids, end]
        builder.add_document(torch.tensor(ids), [len(ids)])
        num_tokens += len(ids)
    builder.finalize(f"{prefix}.idx")
    return num_tokens


def save_blend(folder: Path, blend: Mapping[str, Mapping[str, float]]) -> None:
    """Write `blend.json`; `blend` goes from split to relative prefix to weight."""
    flat = {
        split: [part for prefix, weight in parts.items() for part in (weight, prefix)] for split, parts in blend.items()
    }
    (folder / BLEND_NAME).write_text(json.dumps(flat, indent=1), encoding="utf-8")


def load_blend(folder: Path) -> dict[str, tuple[list[str], list[float]]]:
    """Split → (absolute prefixes, weights).

    Raises:
        DataError: no blend there, or not one in Megatron's form.
    """
    path = folder / BLEND_NAME
    try:
        flat = json.loads(path.read_text(encoding="utf-8"))
        return {split: _parse_parts(flat.get(split), split, folder) for split in ("train", "valid")}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a blend: {error}; run data_prep_pretrain again") from error


def _parse_parts(parts: Any, split: str, folder: Path) -> tuple[list[str], list[float]]:
    if not isinstance(parts, list) or not parts or len(parts) % 2:
        raise ValueError(f"{split} = {parts!r} is not [weight, prefix, …]")
    return [str(folder / prefix) for prefix in parts[1::2]], [float(weight) for weight in parts[::2]]
