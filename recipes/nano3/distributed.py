"""The process group of a training script and megatron-core's view of it: data parallelism only."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from megatron.core import parallel_state


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among its peers."""

    rank: int
    size: int

    @property
    def is_main(self) -> bool:
        """Whether this process writes logs, checkpoints and artifacts."""
        return self.rank == 0


@contextmanager
def process_group() -> Iterator[World]:
    """Bring up gloo and megatron-core for the block: what torchrun set up, or this process alone without a port."""
    torch.set_num_threads(1)  # two threads a process on a busy machine run many times slower than one
    logging.getLogger("megatron.core").setLevel(logging.WARNING)
    if not torch.cuda.is_available():
        # megatron-core compiles small functions, which needs a C++ compiler and gains nothing here.
        torch.compiler.set_stance("force_eager")
    world = World(rank=int(os.environ.get("RANK", "0")), size=int(os.environ.get("WORLD_SIZE", "1")))
    store = dist.HashStore() if world.size == 1 else None  # type: ignore[attr-defined]  # public, not exported
    dist.init_process_group("gloo", store=store, rank=world.rank, world_size=world.size)
    parallel_state.initialize_model_parallel()
    try:
        yield world
    finally:
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()


def sum_over_ranks(value: float) -> float:
    """The sum of each rank's value, the same on all."""
    total = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(total)
    return float(total)


def sum_gradients(parameters: list[torch.nn.Parameter]) -> None:
    """Sum the gradients over the ranks, in one message; an absent one counts, and becomes, zero.

    An expert that got no token on one rank may have got some on another; one process must do as several would.
    """
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if dist.get_world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))
