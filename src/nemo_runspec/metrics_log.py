"""Append-only metrics of one stage, one JSON object a line: what bars, plots, reports and W&B get.

A recipe's rank 0 writes it; whoever watches the stage reads it. A resumed run appends: where a step occurs
twice, the later line counts. `{"checkpoint": N}` among them says that the checkpoint of step N is safe on disk,
`{"config": {…}}` with what an attempt trains. It does not draw or print anything.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nemo_runspec.mirror.follower import start_follower

ENV_METRICS = "NEMOTRON_METRICS"


class MetricsLog:
    """Writes `{"step": k, "total": n, "time": unix seconds, name: value, …}` lines to the file of `$NEMOTRON_METRICS`.

    Without that variable (script started by hand) lines go to `metrics.jsonl` under `$NEMO_RUN_DIR` or `.`. If
    `$NEMOTRON_WANDB` says online, a process of its own, for which nobody waits, sends them to W&B as they come.
    """

    def __init__(self, *, total: int, path: Path | None = None, config: Mapping[str, Any] | None = None) -> None:
        default = Path(os.environ.get("NEMO_RUN_DIR", ".")) / "metrics.jsonl"
        self.path = path or Path(os.environ.get(ENV_METRICS, default))
        self.total = total
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _end_torn_line(self.path)
        if config is not None:
            fingerprint = os.environ.get("NEMOTRON_FINGERPRINT")
            self._append({"config": {**config, **({"fingerprint": fingerprint} if fingerprint else {})}})
        start_follower(self.path)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line; `step` counts from 1 to `total`."""
        self._append({"step": step, "total": self.total, "time": round(time.time(), 3), **metrics})

    def log_checkpoint(self, step: int) -> None:
        """Record that the checkpoint of `step` is whole and on disk."""
        self._append({"checkpoint": step})

    def _append(self, row: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """All steps in order, the later of two equal steps winning; a torn last line is left out."""
    return newest_steps(_read_rows(path))


def newest_steps(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Those of the rows that are steps, in order, the later of two equal steps winning."""
    by_step = {row["step"]: dict(row) for row in rows if isinstance(row.get("step"), int)}
    return [by_step[step] for step in sorted(by_step)]


def parse_rows(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The lines that are JSON objects; a torn one is left out."""
    for line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            yield row


def saved_step(path: Path) -> int:
    """The step of the last checkpoint that the log says is on disk, 0 if there is none."""
    steps = [int(row["checkpoint"]) for row in _read_rows(path) if "checkpoint" in row]
    return steps[-1] if steps else 0


def _read_rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        yield from parse_rows(path.read_text(encoding="utf-8", errors="replace").splitlines())


def _end_torn_line(path: Path) -> None:
    """What a killed run left of a line must not spoil the next one."""
    if path.exists() and path.read_bytes()[-1:] not in (b"", b"\n"):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")
