"""Packed conversations: several in one row of fixed length, kept apart in the model by sequence bounds.

Columns of the parquet file: `input_ids`, `loss_mask` (1 where the token is to be learnt), `seq_start_id` (where each
conversation of the row begins). bridge.py turns them into what Megatron-Bridge reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nemo_runspec.errors import DataError
from nemotron.recipes.nano3.chat import EncodedChat

SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.int8())),
        ("seq_start_id", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True, kw_only=True)
class PackedRow:
    """A row, not yet padded; all three lists as in the file."""

    input_ids: list[int]
    loss_mask: list[int]
    seq_start_id: list[int]


def pack(chats: Iterable[EncodedChat], pack_size: int) -> list[PackedRow]:
    """Conversations in order, each whole; one that is longer than `pack_size` tokens is left out."""
    rows: list[PackedRow] = []
    for chat in chats:
        if len(chat.tokens) > pack_size:
            continue
        if not rows or len(rows[-1].input_ids) + len(chat.tokens) > pack_size:
            rows.append(PackedRow(input_ids=[], loss_mask=[], seq_start_id=[]))
        rows[-1].seq_start_id.append(len(rows[-1].input_ids))
        rows[-1].input_ids.extend(chat.tokens)
        rows[-1].loss_mask.extend(chat.loss_mask)
    return rows


def save_rows(path: Path, rows: Sequence[PackedRow]) -> None:
    """Write the rows as parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names}
    pq.write_table(pa.table(columns, schema=SCHEMA), path)


def load_rows(path: Path) -> list[PackedRow]:
    """The rows of a file.

    Raises:
        DataError: no such file, not parquet, no rows, or other columns.
    """
    try:
        table = pq.read_table(path).select(SCHEMA.names).cast(SCHEMA)  # schema=SCHEMA would make up absent columns
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{path}: not packed chat data: {error}; run data_prep_sft again") from error
    if not table.num_rows:
        raise DataError(f"{path}: no rows; run data_prep_sft with more data")
    return [PackedRow(**row) for row in table.to_pylist()]
