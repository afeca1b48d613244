"""Group relative policy optimisation: the advantage and the clipped loss, both pure. policy.py applies them.

GRPO: Shao et al. 2024, arXiv:2402.03300; asymmetric clip and token mean: DAPO, Yu et al. 2025, arXiv:2503.14476.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STD_EPSILON = 1e-4  # keeps a group of almost equal rewards from being blown up


@dataclass(frozen=True, kw_only=True)
class LossParts:
    """The loss to minimise and what it was made of, each a scalar tensor; only `loss` carries a gradient."""

    loss: Tensor
    kl: Tensor
    clip_fraction: Tensor


def group_advantages(rewards: Tensor) -> Tensor:
    """Each answer's reward relative to its group, in units of the group's sample standard deviation.

    `rewards`: float [num_prompts, num_answers]; same shape out. A group of equal rewards teaches nothing: zeros.
    """
    if rewards.shape[1] < 2:
        return torch.zeros_like(rewards)
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    std = rewards.std(dim=1, keepdim=True)
    return torch.where(std > STD_EPSILON, centred / (std + STD_EPSILON), 0.0)


def clipped_loss(
    new_lp: Tensor,
    old_lp: Tensor,
    adv: Tensor,
    mask: Tensor,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    kl_coef: float = 0.0,
    ref_lp: Tensor | None = None,
) -> LossParts:
    """The clipped surrogate, averaged over all tokens that count, plus `kl_coef` times the KL to the reference.

    `new_lp`, `old_lp`, `ref_lp`: log-probabilities of the sampled tokens, float [batch, seq]. `mask`: 1 where a
    token counts. `adv`: float [batch]. KL in nats a token, estimated as e^d - d - 1 with d = ref_lp - new_lp (k3);
    against `old_lp` where no reference is given.
    """
    count = mask.sum().clamp(min=1)
    ratio = torch.exp(torch.where(mask > 0, new_lp - old_lp, 0.0))
    advantage = adv[:, None]
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - clip_low, 1 + clip_high) * advantage)
    gap = torch.where(mask > 0, (old_lp if ref_lp is None else ref_lp) - new_lp, 0.0)
    kl = ((torch.exp(gap) - gap - 1) * mask).sum() / count
    policy_loss = -(surrogate * mask).sum() / count
    clipped = ((ratio < 1 - clip_low) | (ratio > 1 + clip_high)) & (mask > 0)
    loss = policy_loss + kl_coef * kl if kl_coef else policy_loss
    return LossParts(loss=loss, kl=kl.detach(), clip_fraction=clipped.sum() / count)
