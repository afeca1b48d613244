"""AdamW with decay on matrices only, and the warmup-stable-decay learning rate."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator

from nemotron.recipes.nano3.settings import Settings


class OptimizerSettings(Settings):
    """AdamW and its schedule: linear warmup to `lr`, constant, linear to `min_lr` over the last `decay_iters`."""

    lr: float = Field(ge=0)
    min_lr: float = Field(default=0.0, ge=0)
    warmup_iters: int = Field(default=0, ge=0)
    decay_iters: int = Field(default=0, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    weight_decay: float = Field(default=0.1, ge=0)
    clip_grad: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> OptimizerSettings:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr = {self.min_lr} is above lr = {self.lr}")
        return self


def build_optimizer(model: torch.nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW; vectors (norms, biases, Mamba's per-head values) are not decayed."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(settings.beta1, settings.beta2), fused=True)


def learning_rate(settings: OptimizerSettings, step: int, total: int) -> float:
    """The rate of the update that makes step `step`, 1 … `total`."""
    if step <= settings.warmup_iters:
        return settings.lr * step / settings.warmup_iters
    remaining = total - step
    if remaining < settings.decay_iters:
        return settings.min_lr + (settings.lr - settings.min_lr) * remaining / settings.decay_iters
    return settings.lr


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give all groups the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
