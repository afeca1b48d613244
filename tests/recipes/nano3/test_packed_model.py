"""Packed sequences in the whole model: attention, Mamba and experts must not let one see another."""

import pytest
import torch
from megatron.core.models.mamba.mamba_model import MambaModel
from tiny_model import draw_tokens, lively_model, logits_of
from torch import Tensor

from nemotron.recipes.nano3.packed_batches import build_packed_params, positions
from nemotron.recipes.nano3.training import Batch, masked_loss

pytestmark = pytest.mark.usefixtures("world")

LENGTHS = [[40], [7, 33], [1, 2, 3, 4, 30], [20, 20], [31, 1, 8]]


@pytest.fixture(scope="module")
def model() -> MambaModel:
    return lively_model()


def bounds_of(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)


def build_stream(lengths: list[int]) -> Batch:
    """Random sequences of these lengths as one packed stream; all labels count."""
    bounds, tokens = bounds_of(lengths), draw_tokens(1, sum(lengths))
    return Batch(
        tokens=tokens,
        labels=tokens.roll(1, dims=1),
        positions=positions(bounds)[None],
        loss_mask=torch.ones(tokens.shape),
        packed=build_packed_params(bounds),
    )


def split_stream(batch: Batch, lengths: list[int]) -> list[Batch]:
    parts = zip(*(part.split(lengths, dim=1) for part in (batch.tokens, batch.labels, batch.loss_mask)), strict=True)
    return [
        Batch(tokens=tokens, labels=labels, loss_mask=mask, positions=torch.arange(tokens.shape[1])[None])
        for tokens, labels, mask in parts
    ]


def packed_logits(model: MambaModel, batch: Batch) -> Tensor:
    logits: Tensor = model(batch.tokens, batch.positions, None, packed_seq_params=batch.packed)
    return logits[0].detach()


def gradients(model: MambaModel, loss: Tensor) -> list[Tensor]:
    parameters = list(model.parameters())
    return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_a_packed_forward_equals_those_of_each_sequence_alone(model: MambaModel, lengths: list[int]) -> None:
    batch = build_stream(lengths)
    wanted = torch.cat([logits_of(model, piece.tolist()) for piece in batch.tokens[0].split(lengths)])
    torch.testing.assert_close(packed_logits(model, batch), wanted, rtol=0, atol=1e-5)


def test_without_bounds_the_sequences_would_see_each_other(model: MambaModel) -> None:
    batch = build_stream([20, 20])
    difference = packed_logits(model, batch) - logits_of(model, batch.tokens[0].tolist())
    assert difference[:20].abs().max() < 1e-5
    assert difference[20:].abs().max() > 1e-3


def test_a_packed_loss_has_the_gradient_of_the_separate_ones(model: MambaModel) -> None:
    lengths = [7, 33]
    batch = build_stream(lengths)
    alone = sum(masked_loss(model, part) for part in split_stream(batch, lengths))
    assert isinstance(alone, Tensor)
    torch.testing.assert_close(
        gradients(model, masked_loss(model, batch)), gradients(model, alone), rtol=1e-4, atol=1e-4
    )


def test_positions_begin_anew_with_each_sequence() -> None:
    assert positions(bounds_of([3, 1, 2])).tolist() == [0, 1, 2, 0, 0, 1]


@pytest.mark.parametrize("position", [0, 19, 38])
def test_a_token_changes_nothing_before_it(model: MambaModel, position: int) -> None:
    tokens = draw_tokens(40)
    changed = tokens.clone()
    changed[position + 1] += 1
    difference = logits_of(model, changed.tolist()) - logits_of(model, tokens.tolist())
    assert difference[: position + 1].abs().max() < 1e-6
    assert difference[position + 1 :].abs().max() > 1e-3
