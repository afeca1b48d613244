from pathlib import Path

import pytest
from tokenizers import Tokenizer

from nemo_runspec.errors import DataError
from nemotron.recipes.nano3.chat import encode_plain
from nemotron.recipes.nano3.tokenizer import (
    FILE_NAME,
    MIN_VOCAB_SIZE,
    SPECIAL_TOKENS,
    load_tokenizer,
    special_id,
    train_tokenizer,
)

NASTY = [
    "",
    " ",
    "  two  spaces  ",
    "\n\r\n\t\x0b\x0c\x1c\x85\u2028\u2029",
    "\x00\x01\x7f\ufeff\ufffd\uffff",
    "e\u0301 é ﬁ İ ß",
    "日本語 العربية हिन्दी",
    "🐈\u200d⬛👩\u200d👩\u200d👧🏳️\u200d🌈",
    "\U0010ffff\U000e0001",
    "²³ ½ ٣ 一二",
    "<|end|><|user|> <|endoftext|>",
    "".join(map(chr, range(0x250))),
]


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_any_text_is_decoded_as_it_was(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(encode_plain(text, tokenizer)) == text


@pytest.mark.parametrize("text", ["12345", "a1b22", "3+4=7", "1,000.50"])
def test_each_digit_is_a_token_of_its_own(tokenizer: Tokenizer, text: str) -> None:
    tokens = map(tokenizer.id_to_token, encode_plain(text, tokenizer))
    digits = [token for token in tokens if any(map(str.isdigit, token))]
    assert "".join(digits) == "".join(filter(str.isdigit, text))
    assert {len(token) for token in digits} == {1}


def test_frequent_words_are_learnt(tokenizer: Tokenizer) -> None:
    assert len(encode_plain(" the the the", tokenizer)) == 3


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_text_that_spells_a_special_token_stays_text(tokenizer: Tokenizer, token: str) -> None:
    ids = encode_plain(f"{token}a {token}", tokenizer)
    assert set(ids).isdisjoint(range(len(SPECIAL_TOKENS)))


def test_special_tokens_come_first_in_order(tokenizer: Tokenizer) -> None:
    assert [special_id(tokenizer, token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]


def test_all_bytes_are_in_the_smallest_vocabulary() -> None:
    smallest = train_tokenizer(["no merges fit"], vocab_size=MIN_VOCAB_SIZE)
    assert smallest.get_vocab_size() == MIN_VOCAB_SIZE
    assert len(encode_plain("日", smallest)) == 3


def test_the_same_text_trains_the_same_tokenizer() -> None:
    one, two = (train_tokenizer(["the cat sat on the mat"] * 3, vocab_size=280) for _ in range(2))
    assert one.to_str() == two.to_str()


def test_a_saved_tokenizer_encodes_as_before(tokenizer: Tokenizer, tokenizer_path: Path) -> None:
    text = "the cat <|end|> 123"
    assert encode_plain(text, load_tokenizer(tokenizer_path.parent)) == encode_plain(text, tokenizer)


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer\.json: no tokenizer: .*; run data_prep_pretrain"):
        load_tokenizer(tmp_path)


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("{")
    with pytest.raises(DataError, match=r"tokenizer\.json: no tokenizer"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_without_the_chat_tokens_is_refused_by_their_names(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / FILE_NAME).write_text(tokenizer.to_str().replace("<|user|>", "<|human|>"))
    with pytest.raises(DataError, match=r"lacks the special tokens <\|user\|>; train one"):
        load_tokenizer(tmp_path)
