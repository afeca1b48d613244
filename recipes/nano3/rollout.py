"""Sampling answers from a model, and the log-probabilities of what was sampled.

No decoding cache: each token costs a pass over prompt and answer so far, which for answers of a few tokens is cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from megatron.core.models.mamba.mamba_model import MambaModel
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Prompts with their answers, padded on the right.

    `tokens`: int64 [batch, seq]. `log_probs`, `mask`: float [batch, seq - 1] for the token after each position; `mask`
    is 1 for tokens of the answer, its end included.
    """

    tokens: Tensor
    log_probs: Tensor
    mask: Tensor
    answers: list[list[int]]


@torch.no_grad()
def generate(
    model: MambaModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    end_id: int,
    pad_id: int,
    generator: torch.Generator | None = None,
) -> Rollout:
    """Sample an answer to each prompt at temperature 1, or take the likeliest tokens if there is no generator."""
    model.eval()
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    rows, starts = torch.arange(len(prompts)), lengths.clone()
    tokens = torch.full((len(prompts), int(lengths.max()) + max_new_tokens), pad_id)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = torch.tensor(prompt)
    log_probs = torch.zeros(tokens.shape[0], tokens.shape[1] - 1)
    mask = torch.zeros_like(log_probs)
    open_rows = torch.ones(len(prompts), dtype=torch.bool)
    for _ in range(max_new_tokens):
        logits = forward(model, tokens[:, : int(lengths.max())])[rows, lengths - 1]
        scores = logits.float().log_softmax(-1)
        chosen = scores.argmax(-1) if generator is None else _sample(scores, generator)
        at, live = lengths - 1, open_rows
        tokens[rows[live], lengths[live]] = chosen[live]
        log_probs[rows[live], at[live]] = scores[rows, chosen][live]
        mask[rows[live], at[live]] = 1.0
        lengths = lengths + live
        open_rows = live & (chosen != end_id)
        if not open_rows.any():
            break
    used = int(lengths.max())
    answers = [tokens[row, starts[row] : lengths[row]].tolist() for row in range(len(prompts))]
    return Rollout(
        tokens=tokens[:, :used], log_probs=log_probs[:, : used - 1], mask=mask[:, : used - 1], answers=answers
    )


def forward(model: MambaModel, tokens: Tensor) -> Tensor:
    """Logits: float [batch, seq, vocab]. Padding on the right changes nothing to its left."""
    logits: Tensor = model(tokens, torch.arange(tokens.shape[1]).expand_as(tokens), None)
    return logits


def token_log_probs(model: MambaModel, tokens: Tensor) -> Tensor:
    """Log-probability of each next token: float [batch, seq - 1]."""
    scores = forward(model, tokens[:, :-1]).float().log_softmax(-1)
    return scores.gather(2, tokens[:, 1:, None]).squeeze(2)


def _sample(scores: Tensor, generator: torch.Generator) -> Tensor:
    return torch.multinomial(scores.exp(), 1, generator=generator).squeeze(1)
