# /// script
# [tool.runspec]
# schema = "1"
# name = "nano3/data/prep/pretrain"
# docs = "Text files → tokenizer and Megatron indexed data, split by document, with a blend."
# [tool.runspec.run]
# launch = "direct"
# [tool.runspec.config]
# dir = "./config/data_prep"
# [tool.runspec.resources]
# nodes = 1
# gpus_per_node = 0
# [tool.runspec.artifacts]
# sources = ["sources"]
# output = { name = "nano3-pretrain-data", type = "PretrainDataArtifact" }
# ///
"""Pretraining data of nano3; see `docs` above."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from pydantic import Field

from nemo_runspec.artifacts import PretrainDataArtifact, log_artifact, setup_artifact_tracking
from nemo_runspec.script import load_train_config, run_script
from nemotron.recipes.nano3.indexed_data import save_blend, write_indexed
from nemotron.recipes.nano3.settings import Settings, parse_settings
from nemotron.recipes.nano3.text_sources import (
    TextSource,
    cut_documents,
    describe_source,
    read_text,
    split_items,
)
from nemotron.recipes.nano3.tokenizer import FILE_NAME, MIN_VOCAB_SIZE, load_tokenizer, train_tokenizer


class DataPrepSettings(Settings):
    """`tokenizer_path`: a directory with a tokenizer.json to use instead of training one of `vocab_size` tokens."""

    sources: list[TextSource] = Field(min_length=1)
    document_chars: int = Field(ge=1)
    valid_fraction: float = Field(gt=0, lt=1)
    vocab_size: int = Field(ge=MIN_VOCAB_SIZE)
    tokenizer_path: Path | None = None
    seed: int
    output_dir: Path


def main(config_path: Path) -> None:
    """Write the data set to `<output_dir>/data` and publish it."""
    started = time.monotonic()
    config = load_train_config(config_path)
    settings = parse_settings(DataPrepSettings, config, origin=str(config_path))
    tracking = setup_artifact_tracking(config)
    documents = {
        source.name: cut_documents(read_text(source.path), target_chars=settings.document_chars)
        for source in settings.sources
    }
    splits = {
        source.name: split_items(
            documents[source.name],
            valid_fraction=settings.valid_fraction,
            seed=settings.seed,
            origin=str(source.path),
            remedy="give more, or cut the text into smaller documents (document_chars)",
        )
        for source in settings.sources
    }
    if settings.tokenizer_path is None:
        texts = (document for split in splits.values() for document in split["train"])
        tokenizer = train_tokenizer(texts, vocab_size=settings.vocab_size)
    else:
        tokenizer = load_tokenizer(settings.tokenizer_path)

    folder = settings.output_dir / "data"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / FILE_NAME))
    blend: dict[str, dict[str, float]] = {"train": {}, "valid": {}}
    num_tokens = 0
    for source in settings.sources:
        for split, chosen in splits[source.name].items():
            num_tokens += write_indexed(folder / split / source.name, chosen, tokenizer)
            blend[split][f"{split}/{source.name}"] = source.weight
    save_blend(folder, blend)
    log_artifact(
        PretrainDataArtifact(
            path=folder,
            total_tokens=num_tokens,
            total_sequences=sum(map(len, documents.values())),
            elapsed_sec=time.monotonic() - started,
            num_shards=2 * len(settings.sources),
            source_datasets=[describe_source(s, num_rows=len(documents[s.name])) for s in settings.sources],
            tokenizer_uri=FILE_NAME,
        ),
        tracking,
    )


if __name__ == "__main__":
    run_script(main)
