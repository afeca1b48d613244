"""The byte-level BPE tokenizer: trained on the pretraining text, with digits apart and the chat's special tokens."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from nemo_runspec.errors import DataError

END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
END_OF_TURN = "<|end|>"
SPECIAL_TOKENS = (END_OF_TEXT, PAD, USER, ASSISTANT, END_OF_TURN)  # ids 0, 1, 2, …
MIN_VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)
FILE_NAME = "tokenizer.json"


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """A tokenizer of at most `vocab_size` tokens; all 256 bytes are among them, so any text can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a data or model directory.

    Raises:
        DataError: there is none, it cannot be read, or it lacks a special token.
    """
    path = folder / FILE_NAME
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise DataError(f"{path}: no tokenizer: {error}; run data_prep_pretrain") from error
    missing = [token for token in SPECIAL_TOKENS if tokenizer.token_to_id(token) is None]
    if missing:
        raise DataError(f"{path}: lacks the special tokens {', '.join(missing)}; train one by data_prep_pretrain")
    return tokenizer


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a special token that `load_tokenizer` made sure of."""
    found = tokenizer.token_to_id(token)
    assert found is not None
    return int(found)


def check_same_tokenizer(data_dir: Path, model_dir: Path) -> None:
    """Raise DataError unless the data was tokenized as the model was trained; other ids would train nonsense."""
    if load_tokenizer(data_dir).get_vocab() != load_tokenizer(model_dir).get_vocab():
        raise DataError(
            f"{data_dir / FILE_NAME} and {model_dir / FILE_NAME} differ: the data was tokenized for another model; "
            "run the data prep with the tokenizer of the data this model was pretrained on"
        )
