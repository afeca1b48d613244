import math

import pytest
import torch
from torch import Tensor

from nemotron.recipes.nano3.grpo import clipped_loss, group_advantages

NAN, INF = math.nan, math.inf


def log(*ratios: float) -> Tensor:
    """Log-probabilities of one answer, relative to old ones of zero."""
    return torch.tensor([ratios], dtype=torch.float64).log()


def zeros(num_tokens: int) -> Tensor:
    return torch.zeros(1, num_tokens, dtype=torch.float64)


def ones(num_tokens: int) -> Tensor:
    return torch.ones(1, num_tokens, dtype=torch.float64)


def advantage(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, -3.0])
def test_a_group_of_equal_rewards_teaches_nothing(reward: float) -> None:
    assert group_advantages(torch.full((2, 8), reward)).tolist() == [[0.0] * 8] * 2


def test_almost_equal_rewards_are_not_blown_up() -> None:
    assert group_advantages(torch.tensor([[0.5, 0.5 + 1e-6]])).tolist() == [[0.0, 0.0]]


def test_a_single_answer_has_nothing_to_compare_with() -> None:
    assert group_advantages(torch.tensor([[1.0], [0.0]])).tolist() == [[0.0], [0.0]]


def test_advantages_have_zero_mean_and_unit_deviation_in_each_group() -> None:
    advantages = group_advantages(torch.tensor([[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 5.0]]))
    torch.testing.assert_close(advantages.mean(dim=1), torch.zeros(2))
    torch.testing.assert_close(advantages.std(dim=1), torch.ones(2), rtol=0, atol=1e-3)


def test_a_better_answer_has_a_greater_advantage() -> None:
    (first, second, third), _ = group_advantages(torch.tensor([[0.0, 0.5, 1.0], [1.0, 1.0, 1.0]])).tolist()
    assert (first, second, third) == pytest.approx((-1.0, 0.0, 1.0), abs=1e-3)


@pytest.mark.parametrize(
    ("adv", "ratios", "loss"),
    [
        (1.0, (1.0, 1.0), -1.0),
        (1.0, (1.5, 0.5), -(1.28 + 0.5) / 2),
        (-1.0, (1.5, 0.5), (1.5 + 0.8) / 2),
        (2.0, (1.1, 0.9), -2.0),
        (0.0, (1.5, 0.5), 0.0),
    ],
)
def test_the_loss_is_the_clipped_surrogate(adv: float, ratios: tuple[float, float], loss: float) -> None:
    parts = clipped_loss(log(*ratios), zeros(2), advantage(adv), ones(2), 0.2, 0.28)
    assert parts.loss.item() == pytest.approx(loss)


def test_the_loss_is_the_mean_over_all_tokens_of_all_answers() -> None:
    new, old = torch.zeros(2, 3), torch.zeros(2, 3)
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    parts = clipped_loss(new, old, torch.tensor([1.0, -2.0]), mask)
    assert parts.loss.item() == pytest.approx(-(3 * 1.0 + 1 * -2.0) / 4)


@pytest.mark.parametrize(
    ("adv", "ratio", "slope"),
    [
        (1.0, 1.3, 0.0),
        (-1.0, 0.7, 0.0),
        (1.0, 0.7, -0.7),
        (-1.0, 1.3, 1.3),
        (1.0, 1.2, -1.2),
        (3.0, 1.0, -3.0),
    ],
)
def test_the_gradient_is_zero_only_where_clipping_holds_the_answer_back(adv: float, ratio: float, slope: float) -> None:
    new = log(ratio).requires_grad_()
    clipped_loss(new, zeros(1), advantage(adv), ones(1), 0.2, 0.28).loss.backward()
    assert new.grad is not None
    assert new.grad.item() == pytest.approx(slope)


def test_the_clip_fraction_counts_ratios_outside_of_the_range() -> None:
    parts = clipped_loss(log(1.0, 1.29, 0.79, 1.27), zeros(4), advantage(1.0), ones(4), 0.2, 0.28)
    assert parts.clip_fraction.item() == 0.5


@pytest.mark.parametrize("ratio", [0.01, 0.5, 1.0, 1.001, 2.0, 50.0])
def test_the_kl_is_never_negative_and_zero_only_without_a_change(ratio: float) -> None:
    kl = clipped_loss(log(ratio), zeros(1), advantage(1.0), ones(1)).kl.item()
    assert kl == pytest.approx(1 / ratio + math.log(ratio) - 1)
    assert kl >= 0
    assert (kl == 0) == (ratio == 1.0)


def test_the_kl_to_the_reference_adds_to_the_loss() -> None:
    new, old, reference = log(0.8), log(0.8), log(0.4)
    plain = clipped_loss(new, old, advantage(1.0), ones(1), ref_lp=reference)
    with_kl = clipped_loss(new, old, advantage(1.0), ones(1), kl_coef=0.1, ref_lp=reference)
    assert plain.kl.item() == pytest.approx(0.5 - math.log(0.5) - 1)
    assert (with_kl.loss - plain.loss).item() == pytest.approx(0.1 * plain.kl.item())


def test_the_kl_pulls_towards_the_reference() -> None:
    new = log(0.8).requires_grad_()
    clipped_loss(new, log(0.8), advantage(0.0), ones(1), kl_coef=1.0, ref_lp=log(0.4)).loss.backward()
    assert new.grad is not None
    assert new.grad.item() == pytest.approx(1 - 0.5)


@pytest.mark.parametrize("junk", [0.0, -5.0, 80.0, INF, -INF, NAN])
def test_a_masked_token_has_no_effect(junk: float) -> None:
    new = torch.tensor([[math.log(1.1), junk]], dtype=torch.float64, requires_grad=True)
    old, reference = torch.tensor([[0.0, -junk]]), torch.tensor([[0.1, 3.0]])
    mask = torch.tensor([[1.0, 0.0]])
    parts = clipped_loss(new, old, advantage(1.0), mask, kl_coef=0.5, ref_lp=reference)
    alone = clipped_loss(new[:, :1], old[:, :1], advantage(1.0), mask[:, :1], kl_coef=0.5, ref_lp=reference[:, :1])
    (gradient,) = torch.autograd.grad(parts.loss, new)
    assert parts.loss.item() == alone.loss.item()
    assert (parts.kl.item(), parts.clip_fraction.item()) == (alone.kl.item(), alone.clip_fraction.item())
    assert gradient[0, 1].item() == 0.0


def test_without_any_token_the_loss_is_zero() -> None:
    parts = clipped_loss(zeros(3), zeros(3), advantage(1.0), zeros(3), kl_coef=0.5)
    assert (parts.loss.item(), parts.kl.item(), parts.clip_fraction.item()) == (0.0, 0.0, 0.0)
