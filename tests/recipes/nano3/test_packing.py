from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch import Tensor

from nemo_runspec.errors import ConfigError, DataError
from nemotron.recipes.nano3.chat import EncodedChat
from nemotron.recipes.nano3.packed_batches import build_batch
from nemotron.recipes.nano3.packing import SCHEMA, PackedRow, load_rows, pack, save_rows

PAD = 1


def chat(*tokens: int, answer: int = 1) -> EncodedChat:
    """A chat of these tokens, of which the last `answer` are learnt."""
    return EncodedChat(tokens=list(tokens), loss_mask=[0] * (len(tokens) - answer) + [1] * answer)


def row(*lengths: int) -> PackedRow:
    """Chats of these lengths with tokens 10, 11, …, of which the last two at most, and never the first, are learnt."""
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    mask = [flag for length in lengths for flag in [0] * max(1, length - 2) + [1] * min(2, length - 1)]
    return PackedRow(input_ids=list(range(10, 10 + sum(lengths))), loss_mask=mask, seq_start_id=starts)


def learnt(tokens: Tensor, mask: Tensor) -> list[int]:
    return [int(token) for token, counts in zip(tokens.flatten(), mask.flatten(), strict=True) if counts]


def test_chats_share_a_row_as_long_as_they_fit() -> None:
    rows = pack([chat(1, 2, 3), chat(4, 5), chat(6, 7, 8), chat(9)], pack_size=5)
    assert [each.input_ids for each in rows] == [[1, 2, 3, 4, 5], [6, 7, 8, 9]]
    assert [each.seq_start_id for each in rows] == [[0, 3], [0, 3]]
    assert [each.loss_mask for each in rows] == [[0, 0, 1, 0, 1], [0, 0, 1, 1]]


@pytest.mark.parametrize("pack_size", [8, 13, 64])
def test_no_row_is_longer_than_the_pack_size(pack_size: int) -> None:
    chats = [chat(*range(length)) for length in (3, 8, 1, 7, 5, 2, 8, 8, 4)]
    rows = pack(chats, pack_size)
    assert max(len(each.input_ids) for each in rows) <= pack_size
    assert [token for each in rows for token in each.input_ids] == [token for each in chats for token in each.tokens]


def test_a_chat_that_is_too_long_is_left_out_alone() -> None:
    rows = pack([chat(1, 2), chat(3, 4, 5, 6), chat(7)], pack_size=3)
    assert [each.input_ids for each in rows] == [[1, 2, 7]]


@pytest.mark.parametrize("chats", [[], [chat(1, 2, 3)]], ids=["none", "none that fits"])
def test_no_chat_makes_no_row(chats: list[EncodedChat]) -> None:
    assert pack(chats, pack_size=2) == []


def test_rows_are_loaded_as_they_were_saved(tmp_path: Path) -> None:
    rows = [row(3, 5), row(8), row(2, 2, 2)]
    save_rows(tmp_path / "deep" / "train.parquet", rows)
    assert load_rows(tmp_path / "deep" / "train.parquet") == rows


def test_the_columns_are_those_that_megatron_bridge_reads(tmp_path: Path) -> None:
    save_rows(tmp_path / "train.parquet", [row(3)])
    assert pq.read_schema(tmp_path / "train.parquet").names == ["input_ids", "loss_mask", "seq_start_id"]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.parquet: not packed chat data: .*; run data_prep_sft again"):
        load_rows(tmp_path / "train.parquet")


@pytest.mark.parametrize("content", [b"", b"no parquet", b"PAR1" * 10])
def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.parquet: not packed chat data"):
        load_rows(tmp_path / "train.parquet")


@pytest.mark.parametrize(
    "columns",
    [{"text": ["a"]}, {"input_ids": [[1]], "loss_mask": [[1]]}, {name: [["a"]] for name in SCHEMA.names}],
    ids=["others", "one is missing", "of another type"],
)
def test_parquet_with_other_columns_is_refused(tmp_path: Path, columns: dict[str, list[object]]) -> None:
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet: not packed chat data"):
        load_rows(tmp_path / "train.parquet")


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    save_rows(tmp_path / "train.parquet", [])
    with pytest.raises(DataError, match=r"train\.parquet: no rows; run data_prep_sft with more"):
        load_rows(tmp_path / "train.parquet")


def test_a_batch_is_one_stream_of_padded_rows() -> None:
    batch = build_batch([row(3, 2), row(4)], pack_size=6, pad_id=PAD)
    assert batch.tokens.tolist() == [[10, 11, 12, 13, 14, PAD, 10, 11, 12, 13, PAD, PAD]]


def test_the_bounds_are_those_of_the_chats_and_of_each_rows_padding() -> None:
    batch = build_batch([row(3, 2), row(6), row(2)], pack_size=6, pad_id=PAD)
    assert batch.packed is not None
    assert batch.packed.cu_seqlens_q.tolist() == [0, 3, 5, 6, 12, 14, 18]
    assert batch.packed.max_seqlen_q == 6


def test_positions_begin_anew_with_each_chat() -> None:
    batch = build_batch([row(3, 2), row(4)], pack_size=6, pad_id=PAD)
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1, 0, 0, 1, 2, 3, 0, 1]]


def test_the_label_of_a_position_is_the_next_token() -> None:
    batch = build_batch([row(3, 3)], pack_size=6, pad_id=PAD)
    assert batch.labels[0, :-1].tolist() == batch.tokens[0, 1:].tolist()


@pytest.mark.parametrize("rows", [[row(3, 2, 4)], [row(3, 2, 4), row(12)], [row(2), row(2, 2), row(3)]], ids=len)
def test_exactly_the_learnt_tokens_are_labels_that_count(rows: list[PackedRow]) -> None:
    batch = build_batch(rows, pack_size=12, pad_id=PAD)
    wanted = [token for each in rows for token, counts in zip(each.input_ids, each.loss_mask, strict=True) if counts]
    assert learnt(batch.labels, batch.loss_mask) == wanted


def test_the_last_token_of_a_chat_never_predicts_the_next_chats_first() -> None:
    batch = build_batch([row(3, 3), row(6)], pack_size=6, pad_id=PAD)
    ends = [2, 5, 11]
    assert batch.loss_mask[0, ends].tolist() == [0.0, 0.0, 0.0]


def test_a_row_longer_than_the_pack_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="pack_size = 4, but a row of the data has 5 tokens"):
        build_batch([row(3), row(3, 2)], pack_size=4, pad_id=PAD)
