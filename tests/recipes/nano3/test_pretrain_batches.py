"""Batches out of two sources, told apart by their letters, by megatron-core's data sets in a process group."""

from pathlib import Path
from typing import NamedTuple

import pytest
from tokenizers import Tokenizer

from nemotron.recipes.nano3.indexed_data import save_blend, write_indexed
from nemotron.recipes.nano3.pretrain_batches import build_readers
from nemotron.recipes.nano3.tokenizer import MIN_VOCAB_SIZE, train_tokenizer
from nemotron.recipes.nano3.training import BatchReader, TrainSettings

SEQ_LENGTH = 32
TRAIN = TrainSettings(train_iters=50, global_batch_size=8, micro_batch_size=8, eval_iters=5)
WEIGHTS = {"a": 0.25, "b": 0.75}
SPLITS = ("train", "valid")

pytestmark = pytest.mark.usefixtures("world")


class Readers(NamedTuple):
    train: BatchReader
    valid: BatchReader


@pytest.fixture(scope="module")
def byte_tokenizer() -> Tokenizer:
    return train_tokenizer([""], vocab_size=MIN_VOCAB_SIZE)


@pytest.fixture(scope="module")
def data_dir(byte_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each source has its letter: small in train, large in valid."""
    folder = tmp_path_factory.mktemp("data")
    for name in WEIGHTS:
        write_indexed(folder / "train" / name, [name * length for length in range(20, 60)], byte_tokenizer)
        write_indexed(folder / "valid" / name, [name.upper() * 30] * 2, byte_tokenizer)
    save_blend(folder, {split: {f"{split}/{name}": weight for name, weight in WEIGHTS.items()} for split in SPLITS})
    return folder


@pytest.fixture
def readers(data_dir: Path, byte_tokenizer: Tokenizer, tmp_path: Path) -> Readers:
    return build(data_dir, byte_tokenizer, tmp_path / "cache")


def build(data_dir: Path, tokenizer: Tokenizer, cache_dir: Path, *, train: TrainSettings = TRAIN) -> Readers:
    return Readers(*build_readers(data_dir, tokenizer, train=train, seq_length=SEQ_LENGTH, cache_dir=cache_dir))


def read_text(read: BatchReader, numbers: range, tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode(row.tolist()) for row in read(numbers).tokens]


def test_a_batch_has_the_samples_asked_for(readers: Readers) -> None:
    batch = readers.train(range(3, 8))
    shapes = {part.shape for part in (batch.tokens, batch.labels, batch.positions, batch.loss_mask)}
    assert shapes == {(5, SEQ_LENGTH)}
    assert batch.packed is None


def test_the_label_of_a_position_is_the_next_token_and_all_count(readers: Readers) -> None:
    batch = readers.train(range(20))
    assert batch.labels[:, :-1].tolist() == batch.tokens[:, 1:].tolist()
    assert batch.loss_mask.min() == 1.0


def test_the_weights_of_the_blend_are_respected(readers: Readers, byte_tokenizer: Tokenizer) -> None:
    texts = read_text(readers.train, range(400), byte_tokenizer)
    assert sum("b" in text for text in texts) / len(texts) == pytest.approx(0.75, abs=0.03)


def test_a_sample_has_text_of_one_source(readers: Readers, byte_tokenizer: Tokenizer) -> None:
    texts = read_text(readers.train, range(400), byte_tokenizer)
    assert {"".join(sorted(set(text))) for text in texts} == {"a", "b"}


def test_train_and_valid_share_no_document(readers: Readers, byte_tokenizer: Tokenizer) -> None:
    train = "".join(read_text(readers.train, range(400), byte_tokenizer))
    valid = "".join(read_text(readers.valid, range(40), byte_tokenizer))
    assert (set(train), set(valid)) == (set("ab"), set("AB"))


def test_a_sample_is_the_same_whatever_was_read_before(
    readers: Readers, data_dir: Path, byte_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    readers.train(range(200))
    fresh = build(data_dir, byte_tokenizer, tmp_path / "another-cache")
    assert fresh.train(range(37, 40)).tokens.tolist() == readers.train(range(37, 40)).tokens.tolist()


def test_a_reader_out_of_the_cache_reads_the_same(data_dir: Path, byte_tokenizer: Tokenizer, tmp_path: Path) -> None:
    texts = [read_text(build(data_dir, byte_tokenizer, tmp_path).train, range(400), byte_tokenizer) for _ in range(2)]
    assert texts[0] == texts[1]


def test_another_seed_reads_in_another_order(data_dir: Path, byte_tokenizer: Tokenizer, tmp_path: Path) -> None:
    readers = [
        build(data_dir, byte_tokenizer, tmp_path, train=TRAIN.model_copy(update={"seed": seed})) for seed in (1, 2)
    ]
    assert readers[0].train(range(50)).tokens.tolist() != readers[1].train(range(50)).tokens.tolist()


def test_a_small_source_is_read_again_as_often_as_needed(readers: Readers) -> None:
    assert readers.train(range(TRAIN.train_iters * TRAIN.global_batch_size)).tokens.shape[0] == 400
    assert readers.valid(range(TRAIN.eval_iters * TRAIN.global_batch_size)).tokens.shape[0] == 40
