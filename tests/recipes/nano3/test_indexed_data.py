import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from megatron.core.datasets.indexed_dataset import DType, IndexedDataset, IndexedDatasetBuilder
from tokenizers import Tokenizer

from nemo_runspec.errors import DataError
from nemotron.recipes.nano3.chat import encode_plain
from nemotron.recipes.nano3.indexed_data import BLEND_NAME, load_blend, save_blend, write_indexed
from nemotron.recipes.nano3.tokenizer import END_OF_TEXT, special_id

DOCUMENTS = ["the cat sat", "on 123 mats\n\nand more", "日本語 🐈", "<|endoftext|><|end|>", "a"]


def encode(document: str, tokenizer: Tokenizer) -> list[int]:
    return [*encode_plain(document, tokenizer), special_id(tokenizer, END_OF_TEXT)]


def read_documents(prefix: Path) -> list[list[int]]:
    dataset = IndexedDataset(str(prefix))  # its arrays are gone when it is
    return [row.tolist() for row in dataset[:]]


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    return tmp_path / "train" / "book"


def test_every_document_is_read_back_token_for_token(tokenizer: Tokenizer, prefix: Path) -> None:
    write_indexed(prefix, DOCUMENTS, tokenizer)
    assert read_documents(prefix) == [encode(document, tokenizer) for document in DOCUMENTS]


def test_each_document_is_one_sequence(tokenizer: Tokenizer, prefix: Path) -> None:
    write_indexed(prefix, DOCUMENTS, tokenizer)
    dataset = IndexedDataset(str(prefix))
    assert dataset.document_indices.tolist() == [0, 1, 2, 3, 4, 5]
    assert dataset.sequence_lengths.tolist() == [len(encode(document, tokenizer)) for document in DOCUMENTS]


def test_the_number_of_tokens_is_told(tokenizer: Tokenizer, prefix: Path) -> None:
    told = write_indexed(prefix, DOCUMENTS, tokenizer)
    assert told == sum(map(len, read_documents(prefix)))


def test_text_cannot_end_its_document(tokenizer: Tokenizer, prefix: Path) -> None:
    write_indexed(prefix, ["a<|endoftext|>b"], tokenizer)
    (document,) = read_documents(prefix)
    assert document.count(special_id(tokenizer, END_OF_TEXT)) == 1


def test_the_bytes_are_those_of_megatrons_builder(tokenizer: Tokenizer, prefix: Path, tmp_path: Path) -> None:
    write_indexed(prefix, DOCUMENTS, tokenizer)
    builder = IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=np.uint16)
    rows = [torch.tensor(encode(document, tokenizer)) for document in DOCUMENTS]
    _ = [builder.add_document(row, [len(row)]) for row in rows]
    builder.finalize(str(tmp_path / "theirs.idx"))
    assert prefix.with_suffix(".bin").read_bytes() == (tmp_path / "theirs.bin").read_bytes()
    assert prefix.with_suffix(".idx").read_bytes() == (tmp_path / "theirs.idx").read_bytes()


def test_tokens_of_a_small_vocabulary_take_two_bytes(tokenizer: Tokenizer, prefix: Path) -> None:
    num_tokens = write_indexed(prefix, DOCUMENTS, tokenizer)
    assert prefix.with_suffix(".bin").stat().st_size == 2 * num_tokens
    header = struct.pack("<9sQB", b"MMIDIDX", 1, DType.uint16.value)
    assert prefix.with_suffix(".idx").read_bytes().startswith(header)


def test_a_blend_is_loaded_with_absolute_prefixes(tmp_path: Path) -> None:
    save_blend(tmp_path, {"train": {"train/a": 0.2, "train/b": 3}, "valid": {"valid/a": 1.0}})
    assert load_blend(tmp_path) == {
        "train": ([str(tmp_path / "train/a"), str(tmp_path / "train/b")], [0.2, 3.0]),
        "valid": ([str(tmp_path / "valid/a")], [1.0]),
    }


def test_a_blend_is_written_in_megatrons_flat_form(tmp_path: Path) -> None:
    save_blend(tmp_path, {"train": {"train/a": 0.2, "train/b": 0.8}, "valid": {"valid/a": 1.0}})
    flat = json.loads((tmp_path / BLEND_NAME).read_text())
    assert flat == {"train": [0.2, "train/a", 0.8, "train/b"], "valid": [1.0, "valid/a"]}


def test_a_missing_blend_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"blend\.json: not a blend: .*No such file.*; run data_prep_pretrain again"):
        load_blend(tmp_path)


@pytest.mark.parametrize(
    "blend",
    [
        [],
        {},
        7,
        {"train": [1.0, "a"]},
        {"train": [1.0, "a"], "valid": []},
        {"train": [1.0], "valid": [1.0, "a"]},
        {"train": [1.0, "a", 2.0], "valid": [1.0, "a"]},
        {"train": ["a", 1.0], "valid": [1.0, "a"]},
        {"train": [1.0, 2.0], "valid": [1.0, "a"]},
        {"train": "1a", "valid": [1.0, "a"]},
        {"train": {"a": 1.0}, "valid": [1.0, "a"]},
    ],
    ids=json.dumps,
)
def test_what_is_not_in_megatrons_flat_form_is_refused(tmp_path: Path, blend: Any) -> None:
    (tmp_path / BLEND_NAME).write_text(json.dumps(blend))
    with pytest.raises(DataError, match=r"blend\.json: not a blend: "):
        load_blend(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_blend_that_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / BLEND_NAME).write_bytes(content)
    with pytest.raises(DataError, match=r"blend\.json: not a blend: "):
        load_blend(tmp_path)
