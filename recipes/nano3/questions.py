"""Questions with answers that can be checked: the RL data, one JSON object a line.

{"prompt": "3+4?", "answer": "7", "reward": "exact_match"}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from nemo_runspec.errors import DataError
from nemotron.recipes.nano3.rewards import find_reward
from nemotron.recipes.nano3.settings import Settings


class Question(Settings):
    """What the user asks, the answer wanted, and the name of the reward function that compares."""

    prompt: str
    answer: str
    reward: str


def save_questions(path: Path, questions: Sequence[Question]) -> None:
    """Write one line a question."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(question.model_dump_json() + "\n" for question in questions), encoding="utf-8")


def load_questions(path: Path) -> list[Question]:
    """The questions of a file.

    Raises:
        DataError: no such file, no line, or a line that is no question (with its number).
        ConfigError: a question names a reward that does not exist.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; run data_prep_rl again") from error
    questions = [_parse(line, origin=f"{path}:{number}") for number, line in enumerate(lines, start=1)]
    if not questions:
        raise DataError(f"{path}: no questions; run data_prep_rl with more")
    return questions


def _parse(line: str, *, origin: str) -> Question:
    try:
        question = Question.model_validate(json.loads(line))
    except (ValueError, ValidationError) as error:
        raise DataError(f'{origin}: not {{"prompt", "answer", "reward"}}: {line[:80]!r}') from error
    find_reward(question.reward, origin=origin)
    return question
