"""Questions with answers that can be checked: the RL data, one JSON object a line.

{"prompt": "3+4?", "answer": "7", "reward": "exact_match"}
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from nemo_runspec.errors import DataError
from nemotron.recipes.nano3.rewards import find_reward
from nemotron.recipes.nano3.settings import Settings
from nemotron.recipes.nano3.text_sources import read_text


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
        DataError: as `read_text`, or a line that is no question (with its number).
        ConfigError: a question names a reward that does not exist.
    """
    # Not splitlines(): JSON may have line separators other than \n inside its strings.
    lines = [line for line in enumerate(read_text(path).split("\n"), start=1) if line[1].strip()]
    return [_parse(line, origin=f"{path}:{number}") for number, line in lines]


def _parse(line: str, *, origin: str) -> Question:
    try:
        question = Question.model_validate_json(line)
    except ValidationError as error:
        raise DataError(f'{origin}: not {{"prompt", "answer", "reward"}}: {line[:80]!r}') from error
    find_reward(question.reward, origin=origin)
    return question
