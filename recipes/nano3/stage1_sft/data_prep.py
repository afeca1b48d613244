# /// script
# [tool.runspec]
# schema = "1"
# name = "nano3/data/prep/sft"
# docs = "Conversations, from files and made of text and sums → packed, as parquet."
# [tool.runspec.run]
# launch = "direct"
# [tool.runspec.config]
# dir = "./config/data_prep"
# [tool.runspec.resources]
# nodes = 1
# gpus_per_node = 0
# [tool.runspec.artifacts]
# inputs = { tokenizer = "PretrainDataArtifact" }
# sources = ["chat_files", "sources"]
# output = { name = "nano3-sft-data", type = "SFTDataArtifact" }
# ///
"""SFT data of nano3; see `docs` above."""

from __future__ import annotations

import random
import shutil
import time
from itertools import pairwise
from pathlib import Path

from pydantic import Field

from nemo_runspec.artifacts import InputDatasetInfo, SFTDataArtifact, log_artifact, setup_artifact_tracking
from nemo_runspec.errors import DataError
from nemo_runspec.script import load_train_config, run_script
from nemotron.recipes.nano3.addition import AdditionSettings, take_sums
from nemotron.recipes.nano3.chat import Message, encode_chat, load_chats
from nemotron.recipes.nano3.packing import pack, save_rows
from nemotron.recipes.nano3.settings import Settings, parse_settings
from nemotron.recipes.nano3.text_sources import (
    TextSource,
    describe_file,
    describe_source,
    read_text,
    split_items,
)
from nemotron.recipes.nano3.tokenizer import FILE_NAME, load_tokenizer


class DataPrepSettings(Settings):
    """Conversations from `chat_files`, sums, and `num_continuations` that ask for the next line of a source."""

    tokenizer_dir: Path
    chat_files: list[Path]
    valid_fraction: float = Field(gt=0, lt=1)
    sources: list[TextSource]
    num_continuations: int = Field(ge=0)
    addition: AdditionSettings | None
    pack_size: int = Field(ge=8)
    seed: int
    output_dir: Path


def sum_chats(settings: AdditionSettings, *, split: str, seed: int) -> list[list[Message]]:
    """Questions and their answers; `valid` has held-out sums only."""
    return [
        [Message(role="user", content=each.question), Message(role="assistant", content=each.answer)]
        for each in take_sums(settings, split=split, seed=seed)
    ]


def continuation_chats(text: str) -> list[list[Message]]:
    """For each line of the text that another follows: the line, and the next as the answer."""
    lines = [line.strip() for line in text.splitlines()]
    return [
        [Message(role="user", content=line), Message(role="assistant", content=after)]
        for line, after in pairwise(lines)
        if line and after
    ]


def collect_chats(settings: DataPrepSettings) -> tuple[dict[str, list[list[Message]]], list[InputDatasetInfo]]:
    """All conversations of each split, those of `train` shuffled; and what they were made from."""
    shuffler = random.Random(settings.seed)
    chats: dict[str, list[list[Message]]] = {"train": [], "valid": []}
    made_from = []
    for path in settings.chat_files:
        loaded = load_chats(path)
        split = split_items(loaded, valid_fraction=settings.valid_fraction, seed=settings.seed, origin=str(path))
        chats = {name: chats[name] + split[name] for name in chats}
        made_from.append(describe_file(path, name=path.stem, num_rows=len(loaded)))
    for source in settings.sources:
        continuations = continuation_chats(read_text(source.path))
        wanted = min(settings.num_continuations // len(settings.sources), len(continuations))
        chats["train"] += shuffler.sample(continuations, wanted)
        made_from.append(describe_source(source, num_rows=wanted))
    if settings.addition is not None:
        for name in chats:
            chats[name] += sum_chats(settings.addition, split=name, seed=settings.seed)
    shuffler.shuffle(chats["train"])
    return chats, made_from


def main(config_path: Path) -> None:
    """Write the data set to `<output_dir>/data` and publish it."""
    started = time.monotonic()
    config = load_train_config(config_path)
    settings = parse_settings(DataPrepSettings, config, origin=str(config_path))
    tracking = setup_artifact_tracking(config)
    tokenizer = load_tokenizer(settings.tokenizer_dir)
    chats, made_from = collect_chats(settings)
    folder = settings.output_dir / "data"
    shutil.rmtree(folder, ignore_errors=True)
    num_tokens = 0
    for split, conversations in chats.items():
        rows = pack((encode_chat(chat, tokenizer) for chat in conversations), settings.pack_size)
        if not rows:
            raise DataError(
                f"{split}: none of {len(conversations)} conversations fits pack_size = {settings.pack_size}; "
                "raise it, or give chat_files or addition.num_valid"
            )
        save_rows(folder / f"{split}.parquet", rows)
        num_tokens += sum(len(row.input_ids) for row in rows)
    shutil.copyfile(settings.tokenizer_dir / FILE_NAME, folder / FILE_NAME)
    log_artifact(
        SFTDataArtifact(
            path=folder,
            total_tokens=num_tokens,
            total_sequences=sum(map(len, chats.values())),
            elapsed_sec=time.monotonic() - started,
            pack_size=settings.pack_size,
            source_datasets=made_from,
            tokenizer_uri=FILE_NAME,
        ),
        tracking,
    )


if __name__ == "__main__":
    run_script(main)
