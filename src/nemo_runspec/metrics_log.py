"""Append-only metrics of one stage, one JSON object a line: what bars, plots and reports read.

A recipe's rank 0 writes it; whoever watches the stage reads it. A resumed run appends: where a step occurs
twice, the later line counts. `{"checkpoint": N}` among them says that the checkpoint of step N is safe on disk. It
does not draw or print anything.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ENV_METRICS = "NEMOTRON_METRICS"


class MetricsLog:
    """Writes `{"step": k, "total": n, name: value, …}` lines to the file `$NEMOTRON_METRICS` names.

    Without that variable (script started by hand) lines go to `metrics.jsonl` under `$NEMO_RUN_DIR` or `.`.
    """

    def __init__(self, *, total: int, path: Path | None = None) -> None:
        default = Path(os.environ.get("NEMO_RUN_DIR", ".")) / "metrics.jsonl"
        self.path = path or Path(os.environ.get(ENV_METRICS, default))
        self.total = total
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _end_torn_line(self.path)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line; `step` counts from 1 to `total`."""
        self._append({"step": step, "total": self.total, **metrics})

    def log_checkpoint(self, step: int) -> None:
        """Record that the checkpoint of `step` is whole and on disk."""
        self._append({"checkpoint": step})

    def _append(self, row: Mapping[str, float]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """All steps in order, the later of two equal steps winning; a torn last line is left out."""
    by_step = {row["step"]: row for row in _read_rows(path) if "step" in row}
    return [by_step[step] for step in sorted(by_step)]


def saved_step(path: Path) -> int:
    """The step of the last checkpoint that the log says is on disk, 0 if there is none."""
    steps = [int(row["checkpoint"]) for row in _read_rows(path) if "checkpoint" in row]
    return steps[-1] if steps else 0


def _read_rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            yield row


def _end_torn_line(path: Path) -> None:
    """What a killed run left of a line must not spoil the next one."""
    if path.exists() and path.read_bytes()[-1:] not in (b"", b"\n"):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")
