"""The nano3 stack out of megatron-core's own layers; the parts that need a GPU or Transformer Engine are swapped.

Swapped through megatron-core's spec hooks, nothing is patched: the core attention (PyTorch's scaled dot product), the
router's gate, the final norm; the Mamba mixer is in mamba_mixer.py. Runs on CPU and GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add
from megatron.core.models.gpt.moe_module_specs import get_moe_module_spec
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.ssm.mamba_block import MambaStack, MambaStackSubmodules
from megatron.core.ssm.mamba_layer import MambaLayer, MambaLayerSubmodules
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.attention import SelfAttention, SelfAttentionSubmodules
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.moe.router import TopKRouter
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.torch_norm import WrappedTorchNorm
from megatron.core.transformer.transformer_layer import TransformerLayer, TransformerLayerSubmodules
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (its usual name)

from nemotron.recipes.nano3.mamba_mixer import TorchMambaMixer, segment_ids


class SdpaCoreAttention(MegatronModule):
    """Causal attention; tokens of a packed stream see their own sequence only."""

    def __init__(self, config: TransformerConfig, **_: Any) -> None:
        super().__init__(config)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        attn_mask_type: AttnMaskType | None = None,  # noqa: ARG002
        attention_bias: Tensor | None = None,
        packed_seq_params: PackedSeqParams | None = None,
    ) -> Tensor:
        """Float [seq, batch, heads, head_dim], or [tokens, heads, head_dim] if packed → [seq, batch, hidden]."""
        assert attention_mask is None, "the causal mask is built here"
        assert attention_bias is None, "no attention bias"
        packed = packed_seq_params is not None
        if packed:
            query, key, value = (t.unsqueeze(1) for t in (query, key, value))
        query, key, value = (t.permute(1, 2, 0, 3) for t in (query, key, value))
        segments = segment_ids(packed_seq_params, query.shape[2], query.device)
        mask = None if segments is None else (segments[:, None] == segments[None, :]).tril()
        grouped = query.shape[1] != key.shape[1]
        out = F.scaled_dot_product_attention(query, key, value, mask, is_causal=mask is None, enable_gqa=grouped)
        out = out.permute(2, 0, 1, 3).flatten(2)
        return out.squeeze(1) if packed else out


class PortableRouter(TopKRouter):
    """megatron-core's router; its gate and its buffers stay where the weights are.

    megatron-core 0.16.1 puts the expert-bias buffers on the current CUDA device and gates through Transformer Engine.
    """

    def __init__(self, config: TransformerConfig, pg_collection: Any = None, **kwargs: Any) -> None:
        with_bias = config.moe_router_enable_expert_bias
        config.moe_router_enable_expert_bias = False
        super().__init__(config=config, pg_collection=pg_collection, **kwargs)
        config.moe_router_enable_expert_bias = with_bias
        self.enable_expert_bias = with_bias
        if with_bias:
            del self.local_tokens_per_expert, self.expert_bias
            zeros = torch.zeros(config.num_moe_experts, device=self.weight.device)
            self.register_buffer("local_tokens_per_expert", zeros.clone(), persistent=False)
            self.register_buffer("expert_bias", zeros)

    def gating(self, input: Tensor) -> Tensor:
        """Logits in float32: [..., num_experts]."""
        return F.linear(input.float(), self.weight.float())


class PortableMambaStack(MambaStack):
    """megatron-core's hybrid stack with PyTorch's RMSNorm at its end instead of Transformer Engine's."""

    def __init__(self, config: TransformerConfig, submodules: MambaStackSubmodules, **kwargs: Any) -> None:
        super().__init__(config, submodules, post_layer_norm=False, **kwargs)
        self.final_norm = WrappedTorchNorm(config, config.hidden_size, eps=config.layernorm_epsilon)
        self.post_layer_norm = True


def build_stack_spec(num_experts: int) -> ModuleSpec:
    """The spec of a hybrid stack: `M` Mamba-2, `*` attention, `E` mixture of experts."""
    moe = get_moe_module_spec(use_te=False, num_experts=num_experts, moe_grouped_gemm=False)
    moe.submodules.router = PortableRouter
    mamba = MambaLayerSubmodules(
        norm=WrappedTorchNorm, mixer=ModuleSpec(module=TorchMambaMixer), mamba_bda=get_bias_dropout_add
    )
    attention = TransformerLayerSubmodules(
        input_layernorm=WrappedTorchNorm,
        self_attention=ModuleSpec(
            module=SelfAttention,
            params={"attn_mask_type": AttnMaskType.causal},
            submodules=SelfAttentionSubmodules(
                linear_qkv=ColumnParallelLinear, core_attention=SdpaCoreAttention, linear_proj=RowParallelLinear
            ),
        ),
        self_attn_bda=get_bias_dropout_add,
    )
    experts = TransformerLayerSubmodules(pre_mlp_layernorm=WrappedTorchNorm, mlp=moe, mlp_bda=get_bias_dropout_add)
    return ModuleSpec(
        module=PortableMambaStack,
        submodules=MambaStackSubmodules(
            mamba_layer=ModuleSpec(module=MambaLayer, submodules=mamba),
            attention_layer=ModuleSpec(module=TransformerLayer, submodules=attention),
            moe_layer=ModuleSpec(module=TransformerLayer, submodules=experts),
        ),
    )
