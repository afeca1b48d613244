"""Batches of packed rows: one stream of tokens with the bounds of the conversations in it.

Apart from packing.py, so that data prep, which makes the rows, does not import torch and megatron-core.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from megatron.core.packed_seq_params import PackedSeqParams
from torch import Tensor

from nemo_runspec.errors import ConfigError
from nemotron.recipes.nano3.packing import PackedRow
from nemotron.recipes.nano3.training import Batch


def build_batch(rows: Sequence[PackedRow], *, pack_size: int, pad_id: int) -> Batch:
    """The rows as one stream [1, rows × pack_size], with the bounds of all conversations; padding is one of its own.

    Raises:
        ConfigError: a row is longer than `pack_size`.
    """
    if (longest := max(len(row.input_ids) for row in rows)) > pack_size:
        raise ConfigError(f"pack_size = {pack_size}, but a row of the data has {longest} tokens; take the data's own")
    tokens = torch.full((len(rows), pack_size), pad_id)
    learnt = torch.zeros(len(rows), pack_size)
    starts: list[int] = []
    for index, row in enumerate(rows):
        length = len(row.input_ids)
        tokens[index, :length] = torch.tensor(row.input_ids)
        learnt[index, :length] = torch.tensor(row.loss_mask, dtype=torch.float32)
        ends = [length] if length < pack_size else []
        starts += [index * pack_size + start for start in [*row.seq_start_id, *ends]]
    bounds = torch.tensor([*starts, tokens.numel()], dtype=torch.int32)
    return Batch(
        tokens=tokens.view(1, -1),
        labels=tokens.view(1, -1).roll(-1, dims=1),
        positions=positions(bounds).view(1, -1),
        # The label of a position is the next token; the first token of a conversation is never learnt.
        loss_mask=learnt.view(1, -1).roll(-1, dims=1),
        packed=build_packed_params(bounds),
    )


def build_packed_params(bounds: Tensor) -> PackedSeqParams:
    """`bounds`: int32 [sequences + 1], where each sequence of the stream begins, and its length."""
    longest = int(bounds.diff().max())
    return PackedSeqParams(
        qkv_format="thd", cu_seqlens_q=bounds, cu_seqlens_kv=bounds, max_seqlen_q=longest, max_seqlen_kv=longest
    )


def positions(bounds: Tensor) -> Tensor:
    """Position of each token within its own sequence: int64 [tokens]."""
    starts = bounds[:-1].long()
    return torch.arange(int(bounds[-1])) - starts.repeat_interleave(bounds.diff().long())
