"""Our pretraining loop against a bare megatron-core loop of the same model on the same batches, in turns.

    python benchmarks/pretrain_loop.py [--iters 60] [--rounds 5]

Ours is `nemotron.recipes.nano3.training.train` as the recipe calls it: reading batches, metrics log, balancing experts,
checkpoints at the tiny config's interval and at the end. The bare loop does forward, backward, clip and step on batches
read beforehand, and nothing else. The learning rate is constant and the balancing's rate 0 so that both do the same
work; that their last losses are equal shows it. A round's time runs from the built model to the last step.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from megatron.core.models.mamba.mamba_model import MambaModel
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from nemotron.flows.nano3_stages import RECIPE_DIR
from nemotron.recipes.nano3.distributed import World, process_group
from nemotron.recipes.nano3.model import ModelSettings, build_model
from nemotron.recipes.nano3.optimizer import OptimizerSettings
from nemotron.recipes.nano3.pretrain_batches import build_readers
from nemotron.recipes.nano3.tokenizer import load_tokenizer
from nemotron.recipes.nano3.training import Batch, CheckpointSettings, TrainSettings, train

FLOW = RECIPE_DIR.parent.parent / "flows" / "nano3.py"


class Run(NamedTuple):
    """One round of one loop."""

    tokens_per_s: float
    loss: float


def prepare_data(folder: Path) -> Path:
    """Run the recipe's data prep in `folder`; the directory with its data."""
    command = [sys.executable, str(FLOW), "--plain", "--stages", "data_prep_pretrain"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (found,) = (folder / ".nemotron" / "work").glob("data_prep_pretrain-*/data")
    return found


def build_bare_optimizer(model: MambaModel, settings: OptimizerSettings) -> torch.optim.AdamW:
    """What the recipe's optimizer is, written out: only matrices are decayed."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=betas, weight_decay=settings.weight_decay, fused=True)


def run_bare(model: MambaModel, batches: Sequence[Batch], settings: OptimizerSettings) -> float:
    """Train on all batches; the last loss."""
    optimizer = build_bare_optimizer(model, settings)
    loss = torch.zeros(())
    for batch in batches:
        optimizer.zero_grad()
        loss = model(batch.tokens, batch.positions, None, labels=batch.labels).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_grad)
        optimizer.step()
    return loss.item()


def time_rounds(data: Path, folder: Path, world: World, *, iters: int, rounds: int) -> tuple[list[Run], list[Run]]:
    """The rounds of the bare loop and of ours, in turns; one more before them is not kept."""
    config = OmegaConf.to_container(OmegaConf.load(RECIPE_DIR / "stage0_pretrain" / "config" / "tiny.yaml"))
    tokenizer = load_tokenizer(data)
    model_config = {**config["model"], "expert_bias_rate": 0.0, "vocab_size": tokenizer.get_vocab_size()}
    settings = ModelSettings(**model_config)
    schedule = TrainSettings(**{**config["train"], "train_iters": iters})
    optimizer = OptimizerSettings(**{**config["optimizer"], "warmup_iters": 0, "decay_iters": 0})
    checkpoint = CheckpointSettings(**config["checkpoint"])
    read, _ = build_readers(data, tokenizer, train=schedule, seq_length=settings.seq_length, cache_dir=folder / "cache")
    size = schedule.global_batch_size
    batches = [read(range(first, first + size)) for first in range(0, iters * size, size)]
    num_tokens = sum(batch.tokens.numel() for batch in batches)
    bare, ours = [], []
    for number in range(rounds + 1):
        model = build_model(settings, seed=schedule.seed)
        started = time.perf_counter()
        loss = run_bare(model, batches, optimizer)
        bare.append(Run(num_tokens / (time.perf_counter() - started), loss))
        model = build_model(settings, seed=schedule.seed)
        output_dir = folder / f"round{number}"
        started = time.perf_counter()
        loss = train(
            model, read, train=schedule, optimizer=optimizer, checkpoint=checkpoint, output_dir=output_dir, world=world
        )
        ours.append(Run(num_tokens / (time.perf_counter() - started), loss))
    return bare[1:], ours[1:]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iters", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, process_group() as world:
        folder = Path(name)
        os.environ["NEMOTRON_METRICS"] = str(folder / "metrics.jsonl")
        bare, ours = time_rounds(prepare_data(folder), folder, world, iters=args.iters, rounds=args.rounds)
    table = Table("loop", "tokens/s, median", "lowest to highest", "last loss", title="pretraining, tiny, one process")
    for name, runs in (("bare megatron-core", bare), ("nemotron-flows", ours)):
        speeds = [run.tokens_per_s for run in runs]
        spread = f"{min(speeds):,.0f} to {max(speeds):,.0f}"
        table.add_row(name, f"{median(speeds):,.0f}", spread, f"{runs[-1].loss:.6f}")
    ratio = median(run.tokens_per_s for run in ours) / median(run.tokens_per_s for run in bare)
    Console().print(table, f"ratio {ratio:.3f}; reach: at least 0.90")


if __name__ == "__main__":
    main()
