"""A nano3 model with one layer of each kind, small enough to build in a moment, and inputs for it."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from megatron.core.models.mamba.mamba_model import MambaModel
from torch import Tensor

from nemotron.recipes.nano3.model import ModelSettings, build_model

VOCAB_SIZE = 300
SEQ_LENGTH = 16

MODEL: dict[str, Any] = {
    "hybrid_pattern": "M*E",
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_query_groups": 1,
    "kv_channels": 16,
    "mamba_num_heads": 4,
    "mamba_head_dim": 8,
    "mamba_state_dim": 8,
    "mamba_num_groups": 2,
    "num_experts": 4,
    "router_topk": 2,
    "router_scaling": 2.5,
    "expert_bias_rate": 0.001,
    "moe_ffn_hidden_size": 32,
    "shared_expert_size": 32,
    "seq_length": SEQ_LENGTH,
}


def tiny_settings(**changes: Any) -> ModelSettings:
    return ModelSettings.model_validate({**MODEL, "vocab_size": VOCAB_SIZE, **changes})


def lively_model(*, seed: int = 0) -> MambaModel:
    """A model with weights so far from their small initial values that every token matters to the logits."""
    model = build_model(tiny_settings(), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in large_matrices(model):
        parameter.normal_(std=0.3, generator=generator)
    return model


def large_matrices(model: torch.nn.Module) -> Iterator[Tensor]:
    """The weights of embeddings and projections, without gradients."""
    return (parameter.detach() for parameter in model.parameters() if parameter.dim() == 2 and parameter.shape[0] > 4)


def draw_tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(5, VOCAB_SIZE, shape, generator=torch.Generator().manual_seed(seed))


def logits_of(model: MambaModel, tokens: Sequence[int]) -> Tensor:
    """Logits of one sequence by itself: [seq, vocab]."""
    row = torch.tensor([list(tokens)])
    logits: Tensor = model(row, torch.arange(row.shape[1])[None], None)
    return logits[0].detach()
