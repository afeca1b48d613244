"""Append-only metrics of one stage, one JSON object a line: what bars, plots and reports read.

A recipe's rank 0 writes it; whoever watches the stage reads it. A resumed run appends: where a step occurs
twice, the later line counts. It does not draw or print anything.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

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

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line; `step` counts from 1 to `total`."""
        line = json.dumps({"step": step, "total": self.total, **metrics})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """All steps in order, the later of two equal steps winning; a torn last line is left out."""
    if not path.exists():
        return []
    by_step: dict[float, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        by_step[row["step"]] = row
    return [by_step[step] for step in sorted(by_step)]
