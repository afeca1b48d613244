from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from nemotron.recipes.nano3.distributed import World, process_group
from nemotron.recipes.nano3.tokenizer import FILE_NAME, MIN_VOCAB_SIZE, train_tokenizer

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """megatron-core's process groups, of this process alone."""
    with process_group() as alone:
        yield alone


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A tokenizer that has learnt a few words."""
    texts = ["the cat sat on the mat with the hat", "what is 12+345? it is 357", "user and assistant end the turn"]
    return train_tokenizer(texts, vocab_size=MIN_VOCAB_SIZE + 39)


@pytest.fixture
def tokenizer_path(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer" / FILE_NAME
    path.parent.mkdir()
    tokenizer.save(str(path))
    return path
