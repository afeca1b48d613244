# /// script
# [tool.runspec]
# schema = "1"
# name = "nano3/data/prep/rl"
# docs = "Questions with verifiable answers, from files and made of sums → JSON lines."
# [tool.runspec.run]
# launch = "direct"
# [tool.runspec.config]
# dir = "./config/data_prep"
# [tool.runspec.resources]
# nodes = 1
# gpus_per_node = 0
# [tool.runspec.artifacts]
# inputs = { tokenizer = "PretrainDataArtifact" }
# sources = ["question_files"]
# output = { name = "nano3-rl-data", type = "SplitJsonlDataArtifact" }
# ///
"""RL data of nano3; see `docs` above."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from pydantic import Field
from tokenizers import Tokenizer

from nemo_runspec.artifacts import InputDatasetInfo, SplitJsonlDataArtifact, log_artifact, setup_artifact_tracking
from nemo_runspec.errors import DataError
from nemo_runspec.script import load_train_config, run_script
from nemotron.recipes.nano3.addition import AdditionSettings, take_sums
from nemotron.recipes.nano3.chat import encode_prompt
from nemotron.recipes.nano3.questions import Question, load_questions, save_questions
from nemotron.recipes.nano3.settings import Settings, parse_settings
from nemotron.recipes.nano3.text_sources import describe_file, split_items
from nemotron.recipes.nano3.tokenizer import load_tokenizer


class DataPrepSettings(Settings):
    """Questions from `question_files` and sums; one whose prompt has over `max_prompt_tokens` is refused."""

    tokenizer_dir: Path
    question_files: list[Path]
    valid_fraction: float = Field(gt=0, lt=1)
    addition: AdditionSettings | None
    max_prompt_tokens: int = Field(ge=1)
    seed: int
    output_dir: Path


def collect_questions(settings: DataPrepSettings) -> tuple[dict[str, list[Question]], list[InputDatasetInfo]]:
    """All questions of each split, and the files they are from."""
    questions: dict[str, list[Question]] = {"train": [], "valid": []}
    made_from = []
    for path in settings.question_files:
        loaded = load_questions(path)
        split = split_items(loaded, valid_fraction=settings.valid_fraction, seed=settings.seed, origin=str(path))
        questions = {name: questions[name] + split[name] for name in questions}
        made_from.append(describe_file(path, name=path.stem, num_rows=len(loaded)))
    if settings.addition is not None:
        for name in questions:
            questions[name] += [
                Question(prompt=each.question, answer=each.answer, reward="exact_match")
                for each in take_sums(settings.addition, split=name, seed=settings.seed)
            ]
    return questions, made_from


def check_questions(questions: list[Question], tokenizer: Tokenizer, *, max_tokens: int, split: str) -> None:
    """Raise DataError if there are none, or one is too long."""
    if not questions:
        raise DataError(f"{split}: no questions; give question_files or addition.num_{split}")
    longest = max(questions, key=lambda question: len(encode_prompt(question.prompt, tokenizer)))
    num_tokens = len(encode_prompt(longest.prompt, tokenizer))
    if num_tokens > max_tokens:
        raise DataError(
            f"{split}: prompt {longest.prompt[:60]!r} has {num_tokens} tokens; "
            f"allowed: max_prompt_tokens = {max_tokens}; raise it or shorten the prompt"
        )


def main(config_path: Path) -> None:
    """Write the questions to `<output_dir>/data` and publish them."""
    started = time.monotonic()
    config = load_train_config(config_path)
    settings = parse_settings(DataPrepSettings, config, origin=str(config_path))
    tracking = setup_artifact_tracking(config)
    tokenizer = load_tokenizer(settings.tokenizer_dir)
    questions, made_from = collect_questions(settings)
    folder = settings.output_dir / "data"
    shutil.rmtree(folder, ignore_errors=True)
    for split, chosen in questions.items():
        check_questions(chosen, tokenizer, max_tokens=settings.max_prompt_tokens, split=split)
        save_questions(folder / f"{split}.jsonl", chosen)
    log_artifact(
        SplitJsonlDataArtifact(
            path=folder,
            total_sequences=sum(map(len, questions.values())),
            elapsed_sec=time.monotonic() - started,
            source_datasets=made_from,
        ),
        tracking,
    )


if __name__ == "__main__":
    run_script(main)
