"""GRPO's two workers without Ray. Each brings up the process group, so that one must be closed before the next."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from tiny_model import VOCAB_SIZE, lively_model, tiny_settings
from tokenizers import Tokenizer

from nemotron.recipes.nano3.distributed import process_group
from nemotron.recipes.nano3.model import save_model
from nemotron.recipes.nano3.policy import PolicyTrainer, RlSettings, RolloutWorker, Samples, split_samples
from nemotron.recipes.nano3.questions import Question
from nemotron.recipes.nano3.rollout import token_log_probs
from nemotron.recipes.nano3.settings import parse_settings

QUESTIONS = [Question(prompt=prompt, answer="7", reward="exact_match") for prompt in ("3+4?", "what is 10-3?")]
Worker = TypeVar("Worker", PolicyTrainer, RolloutWorker)


@pytest.fixture
def settings(tokenizer: Tokenizer, tokenizer_path: Path, tmp_path: Path) -> RlSettings:
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    with process_group():
        save_model(tmp_path / "model", lively_model(), tiny_settings(), tokenizer_path)
    config: dict[str, Any] = {
        "backend": "megatron-core",
        "data_dir": tmp_path,
        "model_dir": tmp_path / "model",
        "train": {"train_iters": 4, "prompts_per_iter": 2, "answers_per_prompt": 4, "max_new_tokens": 3},
        "grpo": {"clip_low": 0.2, "clip_high": 0.28},
        "optimizer": {"lr": 1e-3, "weight_decay": 0.0},
        "checkpoint": {"save_interval": 2},
        "output_dir": tmp_path / "run",
    }
    return parse_settings(RlSettings, config, origin="train.yaml")


@contextmanager
def at_work(kind: type[Worker], settings: RlSettings) -> Iterator[Worker]:
    worker = kind(settings)
    try:
        yield worker
    finally:
        worker._scope.close()


def sample(settings: RlSettings, seed: int = 1) -> Samples:
    """Answers of the model that RL begins with; every other one is rewarded."""
    with at_work(PolicyTrainer, settings) as trainer:
        weights = trainer.initial_weights()
    with at_work(RolloutWorker, settings) as worker:
        samples = worker.sample(weights, QUESTIONS, [seed])
    return replace(samples, rewards=np.tile(np.array([1, 0], dtype=np.float32), (2, 2)))


def train(settings: RlSettings, *iterations: Samples) -> list[dict[str, float]]:
    """The metrics of each iteration."""
    with at_work(PolicyTrainer, settings) as trainer:
        metrics = [trainer.train([samples]) for samples in iterations]
        trainer.save_checkpoint()
        return metrics


def numbered(num_groups: int, width: int) -> Samples:
    """Two answers a prompt; the tokens of each are its number."""
    rows = np.arange(2 * num_groups)
    return Samples(
        tokens=np.tile(rows[:, None], width),
        log_probs=np.tile(-rows[:, None], width - 1).astype(np.float32),
        mask=np.ones((len(rows), width - 1), dtype=np.float32),
        rewards=rows.reshape(-1, 2).astype(np.float32),
        texts=[str(row) for row in rows],
    )


def test_each_question_gets_its_answers_side_by_side(settings: RlSettings) -> None:
    samples = sample(settings)
    prompts = [tuple(row[:5].tolist()) for row in samples.tokens]
    assert len(samples.texts) == len(samples.tokens) == 8
    assert [len(set(prompts[:4])), len(set(prompts[4:])), len(set(prompts))] == [1, 1, 2]


def test_samples_depend_on_the_seed_alone(settings: RlSettings) -> None:
    one, two, other = (sample(settings, seed) for seed in (1, 1, 2))
    assert one.texts == two.texts != other.texts


def test_training_makes_rewarded_answers_likelier_and_others_less_likely(settings: RlSettings) -> None:
    samples = sample(settings)
    with at_work(PolicyTrainer, settings) as trainer:
        trainer.train([samples])
        after = token_log_probs(trainer.model, torch.from_numpy(samples.tokens)).detach().numpy()
    gain = ((after - samples.log_probs) * samples.mask).sum(axis=1)
    assert gain[samples.rewards.flatten() == 1].mean() > 0.01
    assert gain[samples.rewards.flatten() == 0].mean() < -0.01


def test_training_on_equal_rewards_changes_nothing(settings: RlSettings) -> None:
    samples = replace(sample(settings), rewards=np.ones((2, 4), dtype=np.float32))
    with at_work(PolicyTrainer, settings) as trainer:
        trainer.train([samples])
        before, after = trainer.initial_weights(), trainer.weights()
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_the_first_update_is_on_policy(settings: RlSettings) -> None:
    (metrics,) = train(settings, sample(settings))
    assert metrics["clip_fraction"] == 0.0
    assert metrics["kl"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["reward"] == 0.5


def test_a_killed_trainer_goes_on_exactly_from_its_checkpoint(settings: RlSettings, tmp_path: Path) -> None:
    samples = sample(settings)
    whole = train(settings, *[samples] * 4)
    shutil.rmtree(tmp_path / "run")
    assert train(settings, *[samples] * 2) + train(settings, *[samples] * 2) == whole


def test_the_initial_weights_stay_those_before_rl_also_after_a_resumption(settings: RlSettings) -> None:
    samples = sample(settings)
    train(settings, *[samples] * 2)
    with at_work(PolicyTrainer, settings) as trainer:
        assert trainer.done_steps() == 2
        assert not np.array_equal(
            trainer.initial_weights()["output_layer.weight"], trainer.weights()["output_layer.weight"]
        )


@pytest.mark.parametrize("num_parts", [1, 2, 3, 5, 9])
def test_every_part_has_whole_groups_and_all_groups_are_in_one(num_parts: int) -> None:
    parts = split_samples([numbered(3, 6), numbered(2, 4)], num_parts)
    assert len(parts) == min(num_parts, 5)
    assert [text for part in parts for text in part.texts] == [*"012345", *"0123"]
    assert all(len(part.tokens) == part.rewards.size == len(part.texts) > 0 for part in parts)
    assert all(part.tokens[:, 0].tolist() == part.rewards.flatten().tolist() for part in parts)


def test_shorter_answers_are_padded_without_counting() -> None:
    (whole,) = split_samples([numbered(1, 6), numbered(1, 4)], 1)
    assert whole.tokens.shape == (4, 6)
    assert whole.mask.sum(axis=1).tolist() == [5, 5, 3, 3]
