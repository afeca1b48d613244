"""The two workers of GRPO: one samples answers and rewards them, one trains the policy. Plain classes; Ray runs them.

The routers' expert biases stay as they were after SFT: only the gradient changes the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from nemotron.recipes.nano3.chat import encode_prompt
from nemotron.recipes.nano3.checkpoint import Checkpoints
from nemotron.recipes.nano3.distributed import process_group
from nemotron.recipes.nano3.grpo import clipped_loss, group_advantages
from nemotron.recipes.nano3.model import load_model, save_model, set_weights, weights_of
from nemotron.recipes.nano3.optimizer import OptimizerSettings, build_optimizer, learning_rate, set_learning_rate
from nemotron.recipes.nano3.questions import Question
from nemotron.recipes.nano3.rewards import REWARDS
from nemotron.recipes.nano3.rollout import generate, token_log_probs
from nemotron.recipes.nano3.settings import Settings
from nemotron.recipes.nano3.tokenizer import END_OF_TURN, FILE_NAME, PAD, load_tokenizer, special_id
from nemotron.recipes.nano3.training import CheckpointSettings, resume, training_state, update

Weights = dict[str, NDArray[np.generic]]


class AlignSettings(Settings):
    """How much is sampled and trained; an iteration samples `prompts × answers` and makes `minibatches` updates."""

    train_iters: int = Field(ge=1)
    prompts_per_iter: int = Field(ge=1)
    answers_per_prompt: int = Field(ge=2)
    minibatches: int = Field(default=1, ge=1)
    max_new_tokens: int = Field(ge=1)
    num_rollout_workers: int = Field(default=1, ge=1)
    seed: int = 1234


class GrpoSettings(Settings):
    """Clip range of the ratio, below and above 1, and the weight of the KL to the model that RL began with."""

    clip_low: float = Field(gt=0, lt=1)
    clip_high: float = Field(gt=0)
    kl_coef: float = Field(default=0.0, ge=0)


class RlSettings(Settings):
    """All that train.yaml says."""

    backend: Literal["megatron-core"]
    data_dir: Path
    model_dir: Path
    train: AlignSettings
    grpo: GrpoSettings
    optimizer: OptimizerSettings
    checkpoint: CheckpointSettings
    output_dir: Path


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Answers to some prompts, answers of one prompt side by side; arrays as in `rollout.Rollout`.

    `rewards`: float [prompts, answers].
    """

    tokens: NDArray[np.int64]
    log_probs: NDArray[np.float32]
    mask: NDArray[np.float32]
    rewards: NDArray[np.float32]
    texts: list[str]


class RolloutWorker:
    """Samples from the weights it is given; keeps nothing between calls."""

    def __init__(self, settings: RlSettings) -> None:
        self._scope = ExitStack()
        self._scope.enter_context(process_group())
        self.settings = settings
        self.model, _ = load_model(settings.model_dir)
        self.tokenizer = load_tokenizer(settings.model_dir)

    def sample(self, weights: Weights, questions: Sequence[Question], seed: Sequence[int]) -> Samples:
        """`answers_per_prompt` answers to each question, drawn by `seed`."""
        repeated = [question for question in questions for _ in range(self.settings.train.answers_per_prompt)]
        draw = int(np.random.SeedSequence(seed).generate_state(1)[0])
        return self._answer(weights, repeated, torch.Generator().manual_seed(draw))

    def answer(self, weights: Weights, questions: Sequence[Question]) -> Samples:
        """The likeliest answer to each question."""
        return self._answer(weights, questions, None)

    def _answer(self, weights: Weights, questions: Sequence[Question], generator: torch.Generator | None) -> Samples:
        set_weights(self.model, from_numpy(weights), origin="the trainer")
        rollout = generate(
            self.model,
            [encode_prompt(question.prompt, self.tokenizer) for question in questions],
            max_new_tokens=self.settings.train.max_new_tokens,
            end_id=special_id(self.tokenizer, END_OF_TURN),
            pad_id=special_id(self.tokenizer, PAD),
            generator=generator,
        )
        texts = [self.tokenizer.decode(answer) for answer in rollout.answers]
        rewards = [REWARDS[q.reward](text, q.answer) for q, text in zip(questions, texts, strict=True)]
        group = self.settings.train.answers_per_prompt if generator is not None else 1
        return Samples(
            tokens=rollout.tokens.numpy(),
            log_probs=rollout.log_probs.numpy(),
            mask=rollout.mask.numpy(),
            rewards=np.array(rewards, dtype=np.float32).reshape(-1, group),
            texts=texts,
        )


class PolicyTrainer:
    """Holds the policy and its optimizer; begins from the newest sound checkpoint."""

    def __init__(self, settings: RlSettings) -> None:
        self._scope = ExitStack()
        self._scope.enter_context(process_group())
        self.settings = settings
        self.model, self.model_settings = load_model(settings.model_dir)
        self._initial = self.weights()
        self.reference = load_model(settings.model_dir)[0] if settings.grpo.kl_coef else None
        self.optimizer = build_optimizer(self.model, settings.optimizer)
        self.checkpoints = Checkpoints(folder=settings.output_dir / "checkpoints", keep=settings.checkpoint.keep)
        self.step, self.loss = resume(self.model, self.optimizer, self.checkpoints)

    def done_steps(self) -> int:
        """Iterations that the checkpoint already has."""
        return self.step

    def initial_weights(self) -> Weights:
        """The policy as it was before RL."""
        return self._initial

    def weights(self) -> Weights:
        """The policy as it is now."""
        return {name: value.numpy().copy() for name, value in weights_of(self.model).items()}

    def train(self, samples: Sequence[Samples]) -> dict[str, float]:
        """One iteration on what the workers sampled; returns its metrics."""
        self.step += 1
        rate = learning_rate(self.settings.optimizer, self.step, self.settings.train.train_iters)
        set_learning_rate(self.optimizer, rate)
        rewards = np.concatenate([part.rewards for part in samples])
        metrics = {"reward": float(rewards.mean()), "lr": rate}
        for minibatch in split_samples(samples, self.settings.train.minibatches):
            metrics |= self._update(minibatch)
        self.loss = metrics["loss"]
        return metrics

    def save_checkpoint(self) -> None:
        """Save what a trainer needs to go on from this iteration."""
        self.checkpoints.save(self.step, training_state(self.model, self.optimizer, loss=self.loss))

    def save_model(self, folder: Path) -> None:
        """Write the policy as a model directory."""
        save_model(folder, self.model, self.model_settings, self.settings.model_dir / FILE_NAME)

    def _update(self, samples: Samples) -> dict[str, float]:
        self.model.train()
        self.optimizer.zero_grad()
        tokens = torch.from_numpy(samples.tokens.copy())
        advantages = group_advantages(torch.from_numpy(samples.rewards.copy())).flatten()
        with torch.no_grad():
            reference = None if self.reference is None else token_log_probs(self.reference, tokens)
        parts = clipped_loss(
            token_log_probs(self.model, tokens),
            torch.from_numpy(samples.log_probs.copy()),
            advantages,
            torch.from_numpy(samples.mask.copy()),
            self.settings.grpo.clip_low,
            self.settings.grpo.clip_high,
            self.settings.grpo.kl_coef,
            reference,
        )
        parts.loss.backward()
        grad_norm = update(self.model, self.optimizer, clip_grad=self.settings.optimizer.clip_grad)
        return {
            "loss": parts.loss.item(),
            "kl": parts.kl.item(),
            "clip_fraction": parts.clip_fraction.item(),
            "grad_norm": grad_norm,
        }


def split_samples(samples: Sequence[Samples], num_parts: int) -> list[Samples]:
    """All samples, padded to one length, in parts of whole groups, each of nearly the same number."""
    width = max(part.tokens.shape[1] for part in samples)
    tokens = np.concatenate([_widen(part.tokens, width) for part in samples])
    log_probs = np.concatenate([_widen(part.log_probs, width - 1) for part in samples])
    mask = np.concatenate([_widen(part.mask, width - 1) for part in samples])
    rewards = np.concatenate([part.rewards for part in samples])
    texts = [text for part in samples for text in part.texts]
    group = rewards.shape[1]
    bounds = np.linspace(0, len(rewards), min(num_parts, len(rewards)) + 1).astype(int)
    return [
        Samples(
            tokens=tokens[start * group : stop * group],
            log_probs=log_probs[start * group : stop * group],
            mask=mask[start * group : stop * group],
            rewards=rewards[start:stop],
            texts=texts[start * group : stop * group],
        )
        for start, stop in pairwise(bounds)
    ]


def from_numpy(weights: Weights) -> dict[str, torch.Tensor]:
    """Tensors of their own; what comes out of Ray's object store is read-only."""
    return {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}


def _widen(array: NDArray[np.generic], width: int) -> NDArray[np.generic]:
    """Zeros on the right; masked out, so that it does not matter which token id 0 is."""
    return np.pad(array, ((0, 0), (0, width - array.shape[1])))
