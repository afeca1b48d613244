import pytest
import torch
import torch.distributed as dist
from torch import nn

from nemotron.recipes.nano3.distributed import process_group, sum_gradients, sum_over_ranks


def test_one_process_needs_no_port_and_is_the_main_one() -> None:
    with process_group() as world:
        assert (world.rank, world.size, world.is_main) == (0, 1, True)
        assert sum_over_ranks(0.1) == 0.1


def test_the_group_is_gone_after_an_error_too_and_can_come_again() -> None:
    with pytest.raises(ZeroDivisionError), process_group():
        _ = 1 / 0
    assert not dist.is_initialized()
    with process_group():
        assert dist.is_initialized()


@pytest.mark.usefixtures("world")
def test_an_absent_gradient_becomes_zero_and_the_others_stay() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    used.sum().backward()
    sum_gradients([used, unused])
    assert used.grad is not None
    assert unused.grad is not None
    assert (used.grad.tolist(), unused.grad.tolist()) == ([1.0, 1.0], [0.0, 0.0, 0.0])
