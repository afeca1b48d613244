"""Our pretraining loop against a bare megatron-core loop of the same model on the same batches, in turns.

    python benchmarks/pretrain_loop.py [--iters 60] [--rounds 3]

Ours is `nemotron.recipes.nano3.training.train` as the recipe calls it: reading batches, metrics log, checkpoints at the
recipe's interval. The bare loop does forward, backward, clip and step on batches read beforehand, and nothing else.
Both end with the same loss, which shows that they do the same work.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

import nemotron.flows
from nemotron.recipes.nano3.distributed import process_group
from nemotron.recipes.nano3.model import ModelSettings, build_model
from nemotron.recipes.nano3.optimizer import OptimizerSettings, build_optimizer
from nemotron.recipes.nano3.pretrain_batches import build_readers
from nemotron.recipes.nano3.tokenizer import load_tokenizer
from nemotron.recipes.nano3.training import Batch, CheckpointSettings, TrainSettings, train

ROOT = Path(nemotron.flows.__path__[0]).resolve().parent


def prepare_data(folder: Path) -> Path:
    """Run the recipe's data prep in `folder`; the directory with its data."""
    command = [sys.executable, str(ROOT / "flows" / "nano3.py"), "--plain", "--stages", "data_prep_pretrain"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (found,) = (folder / ".nemotron" / "work").glob("data_prep_pretrain-*/data")
    return found


def bare_loop(settings: ModelSettings, batches: Sequence[Batch], lr: float, seed: int) -> tuple[float, float]:
    """Seconds and last loss of megatron-core's model under PyTorch's optimizer."""
    model = build_model(settings, seed=seed)
    optimizer = build_optimizer(model, OptimizerSettings(lr=lr))
    loss = torch.zeros(())
    started = time.perf_counter()
    for batch in batches:
        optimizer.zero_grad()
        loss = model(batch.tokens, batch.positions, None, labels=batch.labels).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return time.perf_counter() - started, loss.item()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iters", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    config = OmegaConf.load(ROOT / "recipes/nano3/stage0_pretrain/config/tiny.yaml")
    lr = 1e-3
    schedule = TrainSettings(train_iters=args.iters, global_batch_size=8, micro_batch_size=8, seed=1234)
    with tempfile.TemporaryDirectory() as name, process_group() as world:
        folder = Path(name)
        data = prepare_data(folder)
        tokenizer = load_tokenizer(data)
        # The expert bias stays: balancing it is not part of the bare loop.
        model_config = {**OmegaConf.to_container(config.model), "expert_bias_rate": 0.0}  # type: ignore[dict-item]
        settings = ModelSettings(**model_config, vocab_size=tokenizer.get_vocab_size())
        reader, _ = build_readers(
            data, tokenizer, train=schedule, seq_length=settings.seq_length, cache_dir=folder / "cache"
        )
        batches = [reader(range(step * 8, step * 8 + 8)) for step in range(args.iters)]
        num_tokens = sum(batch.tokens.numel() for batch in batches)
        os.environ["NEMOTRON_METRICS"] = str(folder / "metrics.jsonl")
        bare_loop(settings, batches[:5], lr, schedule.seed)  # warm up
        bare, ours = [], []
        for number in range(args.rounds):
            bare.append(bare_loop(settings, batches, lr, schedule.seed))
            model = build_model(settings, seed=schedule.seed)
            started = time.perf_counter()
            loss = train(
                model,
                reader,
                train=schedule,
                optimizer=OptimizerSettings(lr=lr),
                checkpoint=CheckpointSettings(save_interval=config.checkpoint.save_interval),
                output_dir=folder / f"round{number}",
                world=world,
            )
            ours.append((time.perf_counter() - started, loss))
    show(num_tokens, bare, ours)


def show(num_tokens: int, bare: Sequence[tuple[float, float]], ours: Sequence[tuple[float, float]]) -> None:
    """Print the table; the ratio is of the medians."""
    table = Table("loop", "tokens/s, median", "of bare", "last loss", title="pretraining loop, tiny, one process")
    fastest = statistics.median(seconds for seconds, _ in bare)
    for name, rounds in (("bare megatron-core", bare), ("nemotron-flows", ours)):
        seconds = statistics.median(each for each, _ in rounds)
        table.add_row(name, f"{num_tokens / seconds:,.0f}", f"{fastest / seconds:.0%}", f"{rounds[-1][1]:.6f}")
    Console().print(table, "reach: at least 90 % of bare")


if __name__ == "__main__":
    main()
