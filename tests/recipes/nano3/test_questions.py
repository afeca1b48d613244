from pathlib import Path

import pytest

from nemo_runspec.errors import ConfigError, DataError
from nemotron.recipes.nano3.questions import Question, load_questions, save_questions

GOOD = '{"prompt": "3+4?", "answer": "7", "reward": "exact_match"}'


def ask(prompt: str) -> Question:
    return Question(prompt=prompt, answer="7", reward="number_match")


def write(folder: Path, content: str) -> Path:
    path = folder / "train.jsonl"
    path.write_bytes(content.encode())
    return path


@pytest.mark.parametrize(
    "prompt", ["", "3+4?", '"\\\n\r\n\t', "\u2028\u2029\x85", "\x0b\x0c\x1c\x00", "日本 🐈"], ids=ascii
)
def test_questions_are_loaded_as_they_were_saved(tmp_path: Path, prompt: str) -> None:
    questions = [ask(prompt), ask("plain"), ask(prompt * 2)]
    save_questions(tmp_path / "deep" / "q.jsonl", questions)
    assert load_questions(tmp_path / "deep" / "q.jsonl") == questions


@pytest.mark.parametrize("content", [GOOD, f"\n{GOOD}\n\n", f"\ufeff{GOOD}\n", f"{GOOD}\r\n"])
def test_blank_lines_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path: Path, content: str) -> None:
    assert load_questions(write(tmp_path, content)) == [Question(prompt="3+4?", answer="7", reward="exact_match")]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "3+4?",
        "[]",
        "null",
        '{"prompt": "a", "answer": "b"}',
        '{"prompt": "a", "answer": 7, "reward": "exact_match"}',
        '{"prompt": "a", "answer": "7", "reward": "exact_match", "weight": 1}',
        '{"prompt": "\\ud800", "answer": "7", "reward": "exact_match"}',
    ],
)
def test_a_line_that_is_no_question_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(DataError, match=r'train\.jsonl:3: not \{"prompt", "answer", "reward"\}: '):
        load_questions(write(tmp_path, f"{GOOD}\n\n{line}\n{GOOD}\n"))


def test_a_refused_line_is_shown_in_part(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r": 'x{80}'$"):
        load_questions(write(tmp_path, "x" * 500))


def test_an_unknown_reward_is_refused_by_line_and_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.jsonl:2: reward 'exact' not found; have: exact_match, number_match"):
        load_questions(write(tmp_path, f"{GOOD}\n{GOOD.replace('exact_match', 'exact')}\n"))


@pytest.mark.parametrize(("content", "said"), [("", "empty"), ("\n \n", "empty"), ("\x00", "binary data")])
def test_a_file_without_questions_is_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(DataError, match=rf"train\.jsonl: {said}"):
        load_questions(write(tmp_path, content))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl: cannot be read: No such file"):
        load_questions(tmp_path / "train.jsonl")
