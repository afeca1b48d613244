import pytest
import torch
from torch import nn

from nemo_runspec.errors import ConfigError
from nemotron.recipes.nano3.optimizer import OptimizerSettings, build_optimizer, learning_rate, set_learning_rate
from nemotron.recipes.nano3.settings import parse_settings

WSD = OptimizerSettings(lr=1.0, min_lr=0.1, warmup_iters=10, decay_iters=20)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(1, 0.1), (5, 0.5), (9, 0.9), (10, 1.0), (11, 1.0), (80, 1.0), (81, 0.955), (90, 0.55), (99, 0.145), (100, 0.1)],
)
def test_the_rate_warms_up_stays_and_decays(step: int, rate: float) -> None:
    assert learning_rate(WSD, step, 100) == pytest.approx(rate)


@pytest.mark.parametrize("step", [1, 50, 100])
def test_without_warmup_and_decay_the_rate_is_constant(step: int) -> None:
    assert learning_rate(OptimizerSettings(lr=0.3), step, 100) == 0.3


def test_vectors_are_not_decayed() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    optimizer = build_optimizer(model, OptimizerSettings(lr=0.1, weight_decay=0.5))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decays[id(p)] for name, p in model.named_parameters()} == {
        "0.weight": 0.5,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
    }


def test_a_matrix_without_gradient_shrinks_by_its_decay_alone() -> None:
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(model, OptimizerSettings(lr=0.1, weight_decay=0.5))
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    model.weight.grad, model.bias.grad = torch.zeros(2, 3), torch.zeros(2)
    optimizer.step()
    torch.testing.assert_close(model.weight.detach(), weight * (1 - 0.1 * 0.5))
    torch.testing.assert_close(model.bias.detach(), bias)


def test_the_rate_is_set_for_all_parameters() -> None:
    optimizer = build_optimizer(nn.Linear(3, 2), OptimizerSettings(lr=0.1))
    set_learning_rate(optimizer, 0.7)
    assert [group["lr"] for group in optimizer.param_groups] == [0.7, 0.7]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lr": 0.1, "min_lr": 0.2}, "min_lr = 0.2 is above lr = 0.1"),
        ({"lr": -0.1}, "lr = -0.1: Input should be greater than or equal to 0"),
        ({"lr": float("nan")}, "lr = nan: Input should be"),
        ({"lr": 0.1, "beta1": 1.0}, "beta1 = 1.0: Input should be less than 1"),
        ({"lr": 0.1, "clip_grad": 0}, "clip_grad = 0: Input should be greater than 0"),
        ({"lr": 0.1, "warmup_iters": -1}, "warmup_iters = -1: Input should be greater"),
    ],
)
def test_an_impossible_optimizer_is_refused_by_field_and_value(values: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_settings(OptimizerSettings, values, origin="train.yaml")
