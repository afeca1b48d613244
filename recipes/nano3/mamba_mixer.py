"""A Mamba-2 mixer in plain PyTorch, for megatron-core's `MambaLayer` where its Triton kernels cannot run.

State space duality in chunks: Dao and Gu 2024, arXiv:2405.21060, section 6. Packed sequences start from a zero state
and an empty convolution. No tensor parallelism and no decoding cache.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.module import MegatronModule
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (its usual name)

CHUNK = 32  # tokens; fastest of 16, 32, 64 for short sequences on a CPU
CONV_WIDTH = 4  # Mamba-2's default
DT_MIN, DT_MAX = 0.001, 0.1  # range of the initial step sizes, as in the paper's code


def segment_ids(packed: PackedSeqParams | None, num_tokens: int, device: torch.device) -> Tensor | None:
    """Which sequence each token of a packed stream belongs to: int64 [num_tokens]; None if nothing is packed."""
    if packed is None:
        return None
    return torch.bucketize(torch.arange(num_tokens, device=device), packed.cu_seqlens_q[1:].long(), right=True)


class TorchMambaMixer(MegatronModule):
    """Drop-in for `MambaMixer`: [seq, batch, hidden] → the same shape and no bias."""

    def __init__(
        self,
        config: TransformerConfig,
        d_model: int,
        layer_number: int | None = None,  # noqa: ARG002  (megatron-core passes these three)
        pg_collection: Any = None,  # noqa: ARG002
        pp_layer_offset: int = 0,  # noqa: ARG002
    ) -> None:
        super().__init__(config)
        self.heads, self.head_dim = config.mamba_num_heads, config.mamba_head_dim
        self.groups, self.state_dim = config.mamba_num_groups, config.mamba_state_dim
        self.inner = self.heads * self.head_dim
        conv_dim = self.inner + 2 * self.groups * self.state_dim
        self.in_proj = nn.Linear(d_model, self.inner + conv_dim + self.heads, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(CONV_WIDTH, conv_dim))
        self.conv_bias = nn.Parameter(torch.zeros(conv_dim))
        self.dt_bias = nn.Parameter(torch.empty(self.heads))
        self.A_log = nn.Parameter(torch.empty(self.heads))
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = nn.RMSNorm(self.inner, eps=config.layernorm_epsilon)
        self.out_proj = nn.Linear(self.inner, d_model, bias=False)
        self._initialize(config)

    def _initialize(self, config: TransformerConfig) -> None:
        nn.init.normal_(self.in_proj.weight, std=config.init_method_std)
        nn.init.normal_(self.out_proj.weight, std=config.init_method_std / math.sqrt(2 * config.num_layers))
        bound = 1 / math.sqrt(CONV_WIDTH)
        nn.init.uniform_(self.conv_weight, -bound, bound)
        step = torch.exp(torch.empty(self.heads).uniform_(math.log(DT_MIN), math.log(DT_MAX)))
        with torch.no_grad():
            self.dt_bias.copy_(step + torch.log(-torch.expm1(-step)))  # inverse of softplus
            self.A_log.uniform_(1, 16).log_()

    def forward(
        self, hidden: Tensor, inference_context: object = None, packed_seq_params: PackedSeqParams | None = None
    ) -> tuple[Tensor, None]:
        """`hidden`: float [seq, batch, hidden]; with `packed_seq_params`, batch is 1."""
        assert inference_context is None, "no decoding cache"
        x = hidden.transpose(0, 1)
        segments = segment_ids(packed_seq_params, x.shape[1], x.device)
        z, xbc, dt = self.in_proj(x).split([self.inner, self.conv_weight.shape[1], self.heads], dim=-1)
        xbc = F.silu(causal_conv(xbc, self.conv_weight, segments) + self.conv_bias)
        grouped = self.groups * self.state_dim
        values, b, c = xbc.split([self.inner, grouped, grouped], dim=-1)
        values = values.unflatten(-1, (self.heads, self.head_dim))
        b, c = (t.unflatten(-1, (self.groups, self.state_dim)) for t in (b, c))
        step = F.softplus(dt + self.dt_bias)
        y = chunked_scan(values, step, -torch.exp(self.A_log), b, c, segments)
        y = (y + values * self.D[:, None]).flatten(2)
        return self.out_proj(self.norm(y * F.silu(z))).transpose(0, 1), None


def causal_conv(x: Tensor, weight: Tensor, segments: Tensor | None = None) -> Tensor:
    """Depthwise convolution over the last `width` tokens of the same segment.

    `x`: float [batch, seq, channels]; `weight`: [width, channels], the last row weighs the token itself.
    """
    width = weight.shape[0]
    y = x * weight[-1]
    for back in range(1, width):
        shifted = F.pad(x, (0, 0, back, 0))[:, : x.shape[1]]
        if segments is not None:
            same = segments == F.pad(segments, (back, 0), value=-1)[: len(segments)]
            shifted = shifted * same[:, None]
        y = y + shifted * weight[-1 - back]
    return y


def chunked_scan(
    x: Tensor, step: Tensor, decay: Tensor, b: Tensor, c: Tensor, segments: Tensor | None = None, chunk: int = CHUNK
) -> Tensor:
    """y_t = c_t · h_t with h_t = exp(step_t decay) h_{t-1} + step_t b_t x_t, h = 0 where a segment begins.

    `x`: float [batch, seq, heads, head_dim]; `step`: [batch, seq, heads]; `decay`: [heads], negative;
    `b`, `c`: [batch, seq, groups, state_dim]; `segments`: int [seq]. Returns the shape of `x`.
    """
    length, pad = x.shape[1], -x.shape[1] % chunk
    groups = b.shape[2]
    x, step, b, c = (F.pad(t, [0, 0] * (t.dim() - 2) + [0, pad]) for t in (x, step, b, c))
    ids = torch.zeros(length, dtype=torch.long, device=x.device) if segments is None else segments
    ids = F.pad(ids, (0, pad), value=-1).unflatten(0, (-1, chunk))  # [chunks, chunk]
    x, step, b, c = (t.unflatten(1, (-1, chunk)) for t in (x * step[..., None], step, b, c))
    # From here on heads are [groups, heads a group], and the token within its chunk is second to last.
    x = x.unflatten(3, (groups, -1)).permute(0, 1, 3, 4, 2, 5)
    b, c = (t.permute(0, 1, 3, 2, 4).unsqueeze(3) for t in (b, c))
    total = (step * decay).cumsum(2)  # log of the decay since the chunk's start
    total = total.unflatten(3, (groups, -1)).permute(0, 1, 3, 4, 2)
    y = _within_chunks(x, total, b, c, ids) + _across_chunks(x, total, b, c, ids)
    return y.permute(0, 1, 4, 2, 3, 5).flatten(3, 4).flatten(1, 2)[:, :length]


# Shapes below: `x` [batch, chunks, groups, heads, chunk, head_dim], `total` the same without the last,
# `b`, `c` [batch, chunks, groups, 1, chunk, state_dim], `ids` [chunks, chunk].


def _within_chunks(x: Tensor, total: Tensor, b: Tensor, c: Tensor, ids: Tensor) -> Tensor:
    later = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=x.device).triu(1)
    hidden = later | (ids[:, :, None] != ids[:, None, :])
    log_decay = total[..., :, None] - total[..., None, :]
    weights = torch.exp(log_decay.masked_fill(hidden[None, :, None, None], -torch.inf))
    return (c @ b.transpose(-1, -2) * weights) @ x


def _across_chunks(x: Tensor, total: Tensor, b: Tensor, c: Tensor, ids: Tensor) -> Tensor:
    last = ids[:, -1]
    reaches_end = (ids == last[:, None])[:, None, None]
    to_end = torch.exp(total[..., -1:] - total) * reaches_end
    states = (x * to_end[..., None]).transpose(-1, -2) @ b  # what each chunk adds to the state at its end
    # The state before chunk z: those of the chunks y < z whose last segment goes on to the end of chunk z - 1.
    ends = total[..., -1].cumsum(1)
    before = F.pad(ends, (0, 0, 0, 0, 1, 0))[:, :-1]
    chunks = torch.arange(len(last), device=x.device)
    goes_on = (chunks[None, :] < chunks[:, None]) & (last[None, :] == last.roll(1)[:, None])
    log_decay = (before[:, :, None] - ends[:, None]).masked_fill(~goes_on[None, :, :, None, None], -torch.inf)
    entering = torch.einsum("bzygr,bygrpn->bzgrnp", torch.exp(log_decay), states)
    continues = ((ids == last.roll(1)[:, None]) & (chunks > 0)[:, None])[:, None, None]
    return c @ entering * (torch.exp(total) * continues)[..., None]
