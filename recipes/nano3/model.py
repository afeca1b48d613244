"""The nano3 model family on megatron-core: its settings, building it, and a model directory on disk.

A model directory holds `model.json` (settings), `model.pt` (weights) and `tokenizer.json`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from megatron.core.activations import squared_relu
from megatron.core.models.mamba.mamba_model import MambaModel
from megatron.core.transformer import TransformerConfig
from pydantic import Field, model_validator

from nemo_runspec.errors import CheckpointError
from nemotron.recipes.nano3.portable_layers import build_stack_spec
from nemotron.recipes.nano3.settings import Settings

LAYER_SYMBOLS = "M*E"


class ModelSettings(Settings):
    """Architecture; sizes in channels. `hybrid_pattern` has one symbol a layer: M Mamba-2, * attention, E experts."""

    hybrid_pattern: str = Field(min_length=1)
    hidden_size: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    num_query_groups: int = Field(ge=1)
    kv_channels: int = Field(ge=1)
    mamba_num_heads: int = Field(ge=1)
    mamba_head_dim: int = Field(ge=1)
    mamba_state_dim: int = Field(ge=1)
    mamba_num_groups: int = Field(ge=1)
    num_experts: int = Field(ge=1)
    router_topk: int = Field(ge=1)
    router_scaling: float = Field(gt=0)
    expert_bias_rate: float = Field(ge=0)
    moe_ffn_hidden_size: int = Field(ge=1)
    shared_expert_size: int = Field(ge=1)
    seq_length: int = Field(ge=2)
    vocab_size: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> ModelSettings:
        if wrong := set(self.hybrid_pattern) - set(LAYER_SYMBOLS):
            raise ValueError(f"hybrid_pattern has {''.join(sorted(wrong))!r}; allowed: M, * and E")
        if self.router_topk > self.num_experts:
            raise ValueError(f"router_topk = {self.router_topk} is more than num_experts = {self.num_experts}")
        for whole, part in (("num_attention_heads", "num_query_groups"), ("mamba_num_heads", "mamba_num_groups")):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(f"{whole} = {getattr(self, whole)} is not a multiple of {part}")
        return self


def build_model(settings: ModelSettings, *, seed: int) -> MambaModel:
    """A model with weights drawn from `seed`; megatron-core's process groups must be up."""
    assert settings.vocab_size is not None, "set vocab_size from the tokenizer first"
    torch.manual_seed(seed)
    return MambaModel(
        build_transformer_config(settings),
        build_stack_spec(settings.num_experts),
        vocab_size=settings.vocab_size,
        max_sequence_length=settings.seq_length,
        hybrid_override_pattern=settings.hybrid_pattern,
        position_embedding_type="none",
    )


def build_transformer_config(settings: ModelSettings) -> TransformerConfig:
    """Nemotron-3-Nano's choices: RMSNorm, squared ReLU, no bias, sigmoid router with expert bias and shared expert."""
    return TransformerConfig(
        num_layers=len(settings.hybrid_pattern),
        hidden_size=settings.hidden_size,
        num_attention_heads=settings.num_attention_heads,
        num_query_groups=settings.num_query_groups,
        kv_channels=settings.kv_channels,
        ffn_hidden_size=settings.moe_ffn_hidden_size,
        mamba_num_heads=settings.mamba_num_heads,
        mamba_head_dim=settings.mamba_head_dim,
        mamba_state_dim=settings.mamba_state_dim,
        mamba_num_groups=settings.mamba_num_groups,
        is_hybrid_model=True,
        num_moe_experts=settings.num_experts,
        moe_router_topk=settings.router_topk,
        moe_router_topk_scaling_factor=settings.router_scaling,
        moe_router_score_function="sigmoid",
        moe_router_enable_expert_bias=True,
        moe_router_bias_update_rate=settings.expert_bias_rate,
        moe_router_load_balancing_type="none",
        moe_router_dtype="fp32",
        moe_ffn_hidden_size=settings.moe_ffn_hidden_size,
        moe_shared_expert_intermediate_size=settings.shared_expert_size,
        moe_token_dispatcher_type="allgather",
        normalization="RMSNorm",
        activation_func=squared_relu,
        add_bias_linear=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        use_cpu_initialization=True,
    )


def count_parameters(model: torch.nn.Module) -> int:
    """All parameters, experts included."""
    return sum(parameter.numel() for parameter in model.parameters())


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of the state dict; megatron-core adds entries of other kinds for its own checkpoints."""
    return {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}


def set_weights(model: torch.nn.Module, weights: dict[str, torch.Tensor], *, origin: str) -> None:
    """Load the weights; raise CheckpointError unless they are exactly the model's."""
    expected = {name: tuple(value.shape) for name, value in weights_of(model).items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    if expected != given:
        name = min(name for name, _ in set(expected.items()) ^ set(given.items()))
        raise CheckpointError(
            f"{origin}: weights do not fit the model: {name} is {given.get(name, 'absent')}, "
            f"expected {expected.get(name, 'absent')}; use the settings it was trained with"
        )
    model.load_state_dict(weights, strict=False)


def save_model(folder: Path, model: torch.nn.Module, settings: ModelSettings, tokenizer_path: Path) -> Path:
    """Write a model directory in place of any that is there; returns `folder`."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    torch.save(weights_of(model), partial / "model.pt")
    (partial / "model.json").write_text(settings.model_dump_json(indent=1), encoding="utf-8")
    shutil.copyfile(tokenizer_path, partial / "tokenizer.json")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return folder


def load_model(folder: Path) -> tuple[MambaModel, ModelSettings]:
    """The model of a directory, and its settings.

    Raises:
        CheckpointError: a file is missing or damaged, or does not fit.
    """
    try:
        settings = ModelSettings.model_validate(json.loads((folder / "model.json").read_text(encoding="utf-8")))
        weights: dict[str, Any] = torch.load(folder / "model.pt", map_location="cpu", weights_only=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(f"{folder}: no {Path(error.filename).name}: not a model directory") from error
    except (ValueError, RuntimeError, EOFError, UnpicklingError) as error:
        raise CheckpointError(f"{folder}: damaged: {type(error).__name__} in reading it; train it again") from error
    model = build_model(settings, seed=0)
    set_weights(model, weights, origin=str(folder))
    return model, settings
