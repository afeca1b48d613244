# /// script
# [tool.runspec]
# schema = "1"
# name = "nano3/data_prep/sft"
# docs = "Text files and sums → conversations, packed, as parquet."
# [tool.runspec.run]
# launch = "direct"
# [tool.runspec.config]
# dir = "./config/data_prep"
# [tool.runspec.resources]
# nodes = 1
# gpus_per_node = 0
# [tool.runspec.artifacts]
# inputs = { tokenizer = "PretrainDataArtifact" }
# sources = ["sources"]
# output = { name = "nano3-sft-data", type = "SFTDataArtifact" }
# ///
"""SFT data of nano3; see `docs` above."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pydantic import Field

from nemo_runspec.artifacts import SFTDataArtifact, log_artifact, setup_artifact_tracking
from nemo_runspec.errors import DataError
from nemo_runspec.script import load_train_config, run_script
from nemotron.recipes.nano3.addition import AdditionSettings, draw_sums
from nemotron.recipes.nano3.chat import Message, encode_chat
from nemotron.recipes.nano3.packing import pack, save_rows
from nemotron.recipes.nano3.settings import Settings, parse_settings
from nemotron.recipes.nano3.text_sources import TextSource, describe_source, read_text
from nemotron.recipes.nano3.tokenizer import FILE_NAME, load_tokenizer


class DataPrepSettings(Settings):
    """`num_continuations` conversations ask for the next line of a source; the sums are in `addition`."""

    tokenizer_dir: Path
    sources: list[TextSource]
    num_continuations: int = Field(ge=0)
    addition: AdditionSettings
    pack_size: int = Field(ge=8)
    seed: int
    output_dir: Path


def sum_chats(settings: AdditionSettings, *, split: str, seed: int) -> Iterator[list[Message]]:
    """Questions and their answers; `valid` has held-out sums only."""
    wanted = settings.num_train if split == "train" else settings.num_valid
    for each in islice(draw_sums(settings.max_addend, held_out=split == "valid", seed=seed), wanted):
        yield [Message(role="user", content=each.question), Message(role="assistant", content=each.answer)]


def continuation_chats(text: str) -> list[list[Message]]:
    """For each line of the text that another follows: the line, and the next as the answer."""
    lines = [line.strip() for line in text.splitlines()]
    return [
        [Message(role="user", content=line), Message(role="assistant", content=after)]
        for line, after in zip(lines, lines[1:], strict=False)
        if line and after
    ]


def main(config_path: Path) -> None:
    """Write the data set to `<output_dir>/data` and publish it."""
    started = time.monotonic()
    config = load_train_config(config_path)
    settings = parse_settings(DataPrepSettings, config, origin=str(config_path))
    tracking = setup_artifact_tracking(config)
    tokenizer = load_tokenizer(settings.tokenizer_dir)
    shuffler = random.Random(settings.seed)
    continuations = [chat for source in settings.sources for chat in continuation_chats(read_text(source.path))]
    chosen = shuffler.sample(continuations, min(settings.num_continuations, len(continuations)))
    chats = {
        "train": [*sum_chats(settings.addition, split="train", seed=settings.seed), *chosen],
        "valid": list(sum_chats(settings.addition, split="valid", seed=settings.seed)),
    }
    shuffler.shuffle(chats["train"])
    folder = settings.output_dir / "data"
    shutil.rmtree(folder, ignore_errors=True)
    num_tokens = 0
    for split, conversations in chats.items():
        rows = pack((encode_chat(chat, tokenizer) for chat in conversations), settings.pack_size)
        if not rows:
            raise DataError(
                f"{split}: none of {len(conversations)} conversations fits pack_size = {settings.pack_size}; "
                "raise it, or give addition.num_valid"
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
            source_datasets=[describe_source(source, num_rows=len(chosen)) for source in settings.sources],
            tokenizer_uri=FILE_NAME,
        ),
        tracking,
    )


if __name__ == "__main__":
    run_script(main)
