# /// script
# [tool.runspec]
# schema = "1"
# name = "nano3/data_prep/rl"
# docs = "Sums → questions with verifiable answers, as JSON lines."
# [tool.runspec.run]
# launch = "direct"
# [tool.runspec.config]
# dir = "./config/data_prep"
# [tool.runspec.resources]
# nodes = 1
# gpus_per_node = 0
# [tool.runspec.artifacts]
# inputs = { tokenizer = "PretrainDataArtifact" }
# output = { name = "nano3-rl-data", type = "SplitJsonlDataArtifact" }
# ///
"""RL data of nano3; see `docs` above."""

from __future__ import annotations

import shutil
import time
from itertools import islice
from pathlib import Path

from pydantic import Field

from nemo_runspec.artifacts import SplitJsonlDataArtifact, log_artifact, setup_artifact_tracking
from nemo_runspec.errors import DataError
from nemo_runspec.script import load_train_config, run_script
from nemotron.recipes.nano3.addition import AdditionSettings, draw_sums
from nemotron.recipes.nano3.chat import encode_prompt
from nemotron.recipes.nano3.questions import Question, save_questions
from nemotron.recipes.nano3.settings import Settings, parse_settings
from nemotron.recipes.nano3.tokenizer import load_tokenizer


class DataPrepSettings(Settings):
    """`max_prompt_tokens`: a longer prompt is refused, since a rollout would have to cut it."""

    tokenizer_dir: Path
    addition: AdditionSettings
    reward: str
    max_prompt_tokens: int = Field(ge=1)
    seed: int
    output_dir: Path


def main(config_path: Path) -> None:
    """Write the questions to `<output_dir>/data` and publish them."""
    started = time.monotonic()
    config = load_train_config(config_path)
    settings = parse_settings(DataPrepSettings, config, origin=str(config_path))
    tracking = setup_artifact_tracking(config)
    tokenizer = load_tokenizer(settings.tokenizer_dir)
    folder = settings.output_dir / "data"
    shutil.rmtree(folder, ignore_errors=True)
    total = 0
    wanted = {"train": settings.addition.num_train, "valid": settings.addition.num_valid}
    for split, num_questions in wanted.items():
        sums = draw_sums(settings.addition.max_addend, held_out=split == "valid", seed=settings.seed)
        questions = [
            Question(prompt=each.question, answer=each.answer, reward=settings.reward)
            for each in islice(sums, num_questions)
        ]
        longest = max((len(encode_prompt(question.prompt, tokenizer)) for question in questions), default=0)
        if longest > settings.max_prompt_tokens:
            raise DataError(
                f"{split}: a prompt has {longest} tokens, more than max_prompt_tokens = {settings.max_prompt_tokens}; "
                "raise it or lower addition.max_addend"
            )
        save_questions(folder / f"{split}.jsonl", questions)
        total += len(questions)
    log_artifact(
        SplitJsonlDataArtifact(path=folder, total_sequences=total, elapsed_sec=time.monotonic() - started), tracking
    )


if __name__ == "__main__":
    run_script(main)
