# /// script
# [tool.runspec]
# schema = "1"
# name = "nano3/rl"
# docs = "Align nano3 by GRPO on verifiable rewards: Ray and megatron-core here (tiny), NeMo-RL on a cluster (default)."
# image = "nvcr.io/nvidia/nemo-rl:v0.4.0.nemotron_3_nano"
# [tool.runspec.run]
# launch = "ray"
# [tool.runspec.resources]
# nodes = 1
# gpus_per_node = 8
# [tool.runspec.artifacts]
# inputs = { data = "SplitJsonlDataArtifact", model = "ModelArtifact" }
# output = { name = "nano3-rl-model", type = "ModelArtifact" }
# ///
"""Reinforcement learning of nano3; see `docs` above."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nemo_runspec.artifacts import ModelArtifact, log_artifact, setup_artifact_tracking
from nemo_runspec.metrics_log import MetricsLog, read_metrics
from nemo_runspec.script import load_train_config, run_script
from nemo_runspec.stop import StopRequested, stop_requested
from nemotron.recipes.nano3.policy import PolicyTrainer, RlSettings, RolloutWorker, Samples
from nemotron.recipes.nano3.questions import Question, load_questions
from nemotron.recipes.nano3.ray_session import STATEFUL_WORKER, STATELESS_WORKER, ray_session
from nemotron.recipes.nano3.settings import parse_settings
from nemotron.recipes.nano3.shuffling import item_at

logger = logging.getLogger(__name__)


def main(config_path: Path) -> None:
    """Align, compare with the model before, publish the model."""
    config = load_train_config(config_path)
    tracking = setup_artifact_tracking(config)
    if config.get("backend") == "nemo-rl":
        from nemotron.recipes.nano3.nemo_rl import align_with_nemo_rl

        log_artifact(align_with_nemo_rl(config, output_dir=Path(config["output_dir"])), tracking)
        return
    settings = parse_settings(RlSettings, config, origin=str(config_path))
    questions = {split: load_questions(settings.data_dir / f"{split}.jsonl") for split in ("train", "valid")}
    with ray_session(num_cpus=1 + settings.train.num_rollout_workers) as ray:
        workers = [
            ray.remote(**STATELESS_WORKER)(RolloutWorker).remote(settings)
            for _ in range(settings.train.num_rollout_workers)
        ]
        trainer = ray.remote(**STATEFUL_WORKER)(PolicyTrainer).remote(settings)
        before = ray.get(workers[0].answer.remote(trainer.initial_weights.remote(), questions["valid"]))
        values = settings.model_dump(mode="json", include={"train", "grpo", "optimizer"})
        metrics = MetricsLog(total=settings.train.train_iters, config=values)
        align(ray, trainer, workers, questions["train"], settings, metrics)
        after = ray.get(workers[0].answer.remote(trainer.weights.remote(), questions["valid"]))
        folder = settings.output_dir / "model"
        ray.get(trainer.save_model.remote(folder))
    save_answers(folder / "samples.json", questions["valid"], before, after)
    rewards = [row["reward"] for row in read_metrics(metrics.path)]
    artifact = ModelArtifact(
        path=folder,
        step=settings.train.train_iters,
        metadata={
            "heldout_before": float(before.rewards.mean()),
            "heldout_after": float(after.rewards.mean()),
            "reward_first10": float(np.mean(rewards[:10])),
            "reward_last10": float(np.mean(rewards[-10:])),
        },
    )
    log_artifact(artifact, tracking)


def align(
    ray: ModuleType,
    trainer: Any,
    workers: Sequence[Any],
    questions: Sequence[Question],
    settings: RlSettings,
    metrics: MetricsLog,
) -> None:
    """Sample with all workers, train on what they bring, again and again; goes on after the checkpointed iterations.

    Raises:
        StopRequested: a stop was asked for before the last iteration; the checkpoint is saved.
    """
    total = settings.train.train_iters
    per_iter, seed = settings.train.prompts_per_iter, settings.train.seed
    done = ray.get(trainer.done_steps.remote())
    if done:
        logger.info("resumed from step %d", done)
    for step in range(done + 1, total + 1):
        started = time.perf_counter()
        numbers = range((step - 1) * per_iter, step * per_iter)
        chosen = [questions[item_at(number, num_items=len(questions), seed=seed)] for number in numbers]
        weights = trainer.weights.remote()
        shares = [chosen[index :: len(workers)] for index in range(len(workers))]
        parts: list[Samples] = ray.get(
            [
                worker.sample.remote(weights, share, [seed, step, index])
                for index, (worker, share) in enumerate(zip(workers, shares, strict=True))
                if share
            ]
        )
        row = ray.get(trainer.train.remote(parts))
        num_tokens = sum(part.tokens.size for part in parts)
        metrics.log(step, {**row, "tokens_per_s": num_tokens / (time.perf_counter() - started)})
        stopping = step < total and stop_requested()
        if stopping or settings.checkpoint.is_due(step, total=total):
            ray.get(trainer.save_checkpoint.remote())
            metrics.log_checkpoint(step)
        if stopping:
            raise StopRequested(step)


def save_answers(path: Path, questions: Sequence[Question], before: Samples, after: Samples) -> None:
    """Write the held-out questions with the answers before and after RL."""
    rows = [
        {"prompt": question.prompt, "answer": question.answer, "before": old, "after": new}
        for question, old, new in zip(questions, before.texts, after.texts, strict=True)
    ]
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
