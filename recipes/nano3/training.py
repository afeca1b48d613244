"""The training loop of pretraining and SFT: data parallel, resumable at any number of processes, exact.

What a step sees depends on the step alone, so a run that is killed and resumed goes on as if nothing had happened.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from megatron.core.models.mamba.mamba_model import MambaModel
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer.moe.moe_utils import get_updated_expert_bias
from pydantic import Field, model_validator
from torch import Tensor

from nemo_runspec.errors import ConfigError
from nemo_runspec.metrics_log import MetricsLog
from nemo_runspec.stop import StopRequested, stop_requested
from nemotron.recipes.nano3.checkpoint import Checkpoints
from nemotron.recipes.nano3.distributed import World, sum_gradients, sum_over_ranks
from nemotron.recipes.nano3.model import set_weights, weights_of
from nemotron.recipes.nano3.optimizer import OptimizerSettings, build_optimizer, learning_rate, set_learning_rate
from nemotron.recipes.nano3.portable_layers import PortableRouter
from nemotron.recipes.nano3.settings import Settings

logger = logging.getLogger(__name__)


class TrainSettings(Settings):
    """How long and how wide; batch sizes in sequences."""

    train_iters: int = Field(ge=1)
    global_batch_size: int = Field(ge=1)
    micro_batch_size: int = Field(ge=1)
    eval_iters: int = Field(default=4, ge=1)
    seed: int = 1234

    @model_validator(mode="after")
    def _check(self) -> TrainSettings:
        if self.global_batch_size % self.micro_batch_size:
            raise ValueError(
                f"global_batch_size = {self.global_batch_size} is not a multiple of "
                f"micro_batch_size = {self.micro_batch_size}"
            )
        return self


class CheckpointSettings(Settings):
    """When to save, in steps, and how many checkpoints to keep."""

    save_interval: int = Field(default=50, ge=1)
    keep: int = Field(default=2, ge=1)

    def is_due(self, step: int, *, total: int) -> bool:
        """Whether to save after this step of `total`."""
        return step % self.save_interval == 0 or step == total


class LoopSettings(Settings):
    """What all training stages have in common."""

    train: TrainSettings
    optimizer: OptimizerSettings
    checkpoint: CheckpointSettings
    output_dir: Path


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One micro-batch, all [batch, seq]: `tokens`, `labels`, `positions` int64, `loss_mask` float.

    `loss_mask` is 1 for a label that counts. With `packed`, batch is 1 and positions begin anew with each sequence.
    """

    tokens: Tensor
    labels: Tensor
    positions: Tensor
    loss_mask: Tensor
    packed: PackedSeqParams | None = None


BatchReader = Callable[[range], Batch]
"""Reads the sequences with these numbers, counted over the whole run, as one micro-batch."""


def train(
    model: MambaModel,
    read_batch: BatchReader,
    *,
    train: TrainSettings,
    optimizer: OptimizerSettings,
    checkpoint: CheckpointSettings,
    output_dir: Path,
    world: World,
) -> float:
    """Train to `train.train_iters` steps, from the newest sound checkpoint if there is one; returns the last loss.

    Raises:
        StopRequested: a stop was asked for before the last step; the checkpoint is saved.
        ConfigError: the processes cannot share a batch evenly.
        CheckpointError: a checkpoint does not fit the model.
    """
    parts = micro_batches(train, world)
    checkpoints = Checkpoints(folder=output_dir / "checkpoints", keep=checkpoint.keep)
    adamw = build_optimizer(model, optimizer)
    done, loss = resume(model, adamw, checkpoints)
    config = {"train": train.model_dump(mode="json"), "optimizer": optimizer.model_dump(mode="json")}
    metrics = MetricsLog(total=train.train_iters, config=config) if world.is_main else None
    for step in range(done + 1, train.train_iters + 1):
        started = time.perf_counter()
        rate = learning_rate(optimizer, step, train.train_iters)
        set_learning_rate(adamw, rate)
        first = (step - 1) * train.global_batch_size
        batches = [read_batch(range(first + part.start, first + part.stop)) for part in parts]
        loss, grad_norm = train_step(model, adamw, batches, clip_grad=optimizer.clip_grad)
        if metrics:
            num_tokens = world.size * sum(batch.tokens.numel() for batch in batches)
            speed = num_tokens / (time.perf_counter() - started)
            metrics.log(step, {"loss": loss, "lr": rate, "grad_norm": grad_norm, "tokens_per_s": speed})
        stopping = step < train.train_iters and agree_to_stop(world)
        if stopping or checkpoint.is_due(step, total=train.train_iters):
            if metrics:
                checkpoints.save(step, training_state(model, adamw, loss=loss))
                metrics.log_checkpoint(step)
            dist.barrier()
        if stopping:
            raise StopRequested(step)
    return loss


def agree_to_stop(world: World) -> bool:
    """Whether a stop was asked for, the same on all ranks: what rank 0 sees counts."""
    seen = world.is_main and stop_requested()
    return seen if world.size == 1 else sum_over_ranks(float(seen)) > 0


def micro_batches(train: TrainSettings, world: World) -> list[range]:
    """This rank's share of a global batch, as ranges of positions in it.

    Raises:
        ConfigError: the batch cannot be shared evenly.
    """
    share, rest = divmod(train.global_batch_size, world.size)
    if rest:
        raise ConfigError(
            f"train.global_batch_size = {train.global_batch_size} cannot be shared by {world.size} processes; "
            "make it a multiple, or change nproc_per_node"
        )
    begin, size = world.rank * share, min(train.micro_batch_size, share)
    return [range(start, min(start + size, begin + share)) for start in range(begin, begin + share, size)]


def train_step(
    model: MambaModel, optimizer: torch.optim.Optimizer, batches: Sequence[Batch], *, clip_grad: float
) -> tuple[float, float]:
    """One update on this rank's micro-batches; the loss a token and the gradient's norm, over all ranks."""
    model.train()
    optimizer.zero_grad()
    num_labels = sum_over_ranks(sum(float(batch.loss_mask.sum()) for batch in batches))
    loss_sum = 0.0
    for batch in batches:
        loss = masked_loss(model, batch) / max(num_labels, 1.0)
        loss.backward()
        loss_sum += loss.item()
    grad_norm = update(model, optimizer, clip_grad=clip_grad)
    balance_experts(model)
    return sum_over_ranks(loss_sum), grad_norm


def update(model: MambaModel, optimizer: torch.optim.Optimizer, *, clip_grad: float) -> float:
    """Sum the gradients over the ranks, clip, step; returns their norm before clipping."""
    parameters = list(model.parameters())
    sum_gradients(parameters)
    grad_norm = torch.nn.utils.clip_grad_norm_(parameters, clip_grad).item()
    optimizer.step()
    return grad_norm


def masked_loss(model: MambaModel, batch: Batch) -> Tensor:
    """Sum of the cross-entropy over the labels that count, in nats."""
    losses = model(batch.tokens, batch.positions, None, labels=batch.labels, packed_seq_params=batch.packed)
    total: Tensor = (losses * batch.loss_mask).sum()
    return total


@torch.no_grad()
def balance_experts(model: MambaModel) -> None:
    """Move each router's expert bias towards equal load, by what the experts got since the last call."""
    for router in (module for module in model.modules() if isinstance(module, PortableRouter)):
        rate = router.config.moe_router_bias_update_rate
        router.expert_bias.copy_(get_updated_expert_bias(router.local_tokens_per_expert, router.expert_bias, rate))
        router.local_tokens_per_expert.zero_()


@torch.no_grad()
def evaluate(model: MambaModel, read_batch: BatchReader, *, train: TrainSettings, world: World) -> float:
    """Loss a token over the first `eval_iters` global batches of `read_batch`."""
    model.eval()
    loss_sum = num_labels = 0.0
    for iteration in range(train.eval_iters):
        first = iteration * train.global_batch_size
        for part in micro_batches(train, world):
            batch = read_batch(range(first + part.start, first + part.stop))
            loss_sum += masked_loss(model, batch).item()
            num_labels += float(batch.loss_mask.sum())
    return sum_over_ranks(loss_sum) / max(sum_over_ranks(num_labels), 1.0)


def training_state(model: MambaModel, optimizer: torch.optim.Optimizer, **extra: object) -> dict[str, object]:
    """What `resume` needs to go on exactly from here."""
    return {"model": weights_of(model), "optimizer": optimizer.state_dict(), **extra}


def resume(model: MambaModel, optimizer: torch.optim.Optimizer, checkpoints: Checkpoints) -> tuple[int, float]:
    """Take the newest sound checkpoint; its step and loss, or 0 and NaN where there is none."""
    found = checkpoints.load_latest()
    if found is None:
        return 0, float("nan")
    set_weights(model, found.state["model"], origin=f"{checkpoints.folder}, step {found.step}")
    optimizer.load_state_dict(found.state["optimizer"])
    logger.info("resumed from step %d in %s", found.step, checkpoints.folder)
    return found.step, found.state["loss"]
