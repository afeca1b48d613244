import pytest
import torch
from megatron.core.models.mamba.mamba_model import MambaModel
from tiny_model import draw_tokens, lively_model, tiny_settings
from torch import Tensor

from nemotron.recipes.nano3.model import build_model
from nemotron.recipes.nano3.portable_layers import PortableRouter
from nemotron.recipes.nano3.training import balance_experts

pytestmark = pytest.mark.usefixtures("world")

RATE = 0.001


@pytest.fixture
def model() -> MambaModel:
    return lively_model()


def router_of(model: MambaModel) -> PortableRouter:
    (router,) = (module for module in model.modules() if isinstance(module, PortableRouter))
    return router


def run_forward(model: MambaModel) -> Tensor:
    logits: Tensor = model(draw_tokens(2, 16), torch.arange(16).expand(2, 16), None)
    return logits


def test_the_bias_moves_towards_experts_that_got_less_than_their_share(model: MambaModel) -> None:
    router = router_of(model)
    router.local_tokens_per_expert.copy_(torch.tensor([4.0, 0.0, 12.0, 8.0]))
    router.expert_bias.copy_(torch.tensor([0.5, 0.0, 0.0, -0.5]))
    balance_experts(model)
    wanted = torch.tensor([0.5 + RATE, RATE, -RATE, -0.5 - RATE])
    torch.testing.assert_close(router.expert_bias, wanted)


def test_an_expert_with_just_its_share_keeps_its_bias(model: MambaModel) -> None:
    router = router_of(model)
    router.local_tokens_per_expert.fill_(8.0)
    balance_experts(model)
    assert router.expert_bias.tolist() == [0.0] * 4


def test_balancing_touches_no_weights(model: MambaModel) -> None:
    run_forward(model)
    before = [parameter.clone() for parameter in model.parameters()]
    balance_experts(model)
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_a_training_forward_counts_topk_experts_a_token(model: MambaModel) -> None:
    run_forward(model)
    assert router_of(model).local_tokens_per_expert.sum() == 2 * 16 * tiny_settings().router_topk


def test_an_evaluating_forward_counts_nothing(model: MambaModel) -> None:
    with torch.no_grad():
        run_forward(model)
    assert router_of(model).local_tokens_per_expert.sum() == 0


def test_balancing_begins_to_count_anew(model: MambaModel) -> None:
    run_forward(model)
    balance_experts(model)
    assert router_of(model).local_tokens_per_expert.sum() == 0


def test_a_large_bias_makes_every_token_choose_its_expert(model: MambaModel) -> None:
    router_of(model).expert_bias[1] = 10.0
    run_forward(model)
    assert router_of(model).local_tokens_per_expert[1] == 2 * 16


def test_the_bias_is_saved_with_the_weights_and_the_counts_are_not() -> None:
    names = build_model(tiny_settings(), seed=0).state_dict()
    assert [name.rpartition(".")[2] for name in names if "expert" in name.rpartition(".")[2]] == ["expert_bias"]
