"""Sends a metrics file to its W&B run: what the run lacks, and what is added until the training is over.

Runs in the process of `nemo_runspec.mirror.follow`, which says what is promised and does the rest of it.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_runspec.errors import MirrorError
from nemo_runspec.metrics_log import newest_steps, parse_rows
from nemo_runspec.mirror.metrics import WandbRun, save_wandb_run, unsent_steps
from nemo_runspec.mirror.server import LATER
from nemo_runspec.mirror.target import WandbTarget
from nemo_runspec.slurm.logs import LogFollower

if TYPE_CHECKING:
    from wandb import Run

POLL_S = 1.0
TRANSMIT_S = 5.0
NUM_RETRIES = 1_000_000  # the client's own number is used up within minutes, and then it drops all that comes
ASK_TIMEOUT_S = 10
NUM_ASKS = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Training:
    """Who writes the file: this process's parent, or with `ended` nobody any more."""

    parent: int
    ended: bool

    def is_over(self) -> bool:
        """Whether nothing more will be written."""
        return self.ended or not self.has_parent()

    def has_parent(self) -> bool:
        """Whether the process that started this one is alive."""
        return os.getppid() == self.parent


def send(target: WandbTarget, metrics: Path, training: Training) -> None:
    """Open the run, send what it lacks until there will be no more, finish it.

    Raises:
        MirrorError: the server then lacks some of it nevertheless.
    """
    run = _open(target, training)
    note = WandbRun(server=target.base_url, path=run.path, url=run.url or "", last_step=run.starting_step - 1)
    save_wandb_run(metrics, note)
    logger.info("sending to %s", note.url)
    last, complete = _log_rows(run, metrics, training, last=note.last_step)
    run.finish(exit_code=0 if complete else 1)
    if last > note.last_step:
        save_wandb_run(metrics, note.model_copy(update={"last_step": _ask_last_step(note.path, expected=last)}))
    if lost := unsent_steps(metrics, target):
        raise MirrorError(
            f"W&B server {target.base_url} lacks steps {lost[0]} to {lost[-1]} of {note.path}, which were sent: "
            f"it refused them; wait, {LATER}"
        )
    logger.info("sent to step %d", last)


def _log_rows(run: Run, metrics: Path, training: Training, *, last: int) -> tuple[int, bool]:
    """Log all rows after the step `last`; the last one's step, and whether that is the training's last."""
    file, complete, over = LogFollower(path=metrics), False, False
    while not complete and not over:
        over = training.is_over()  # first this, then the reading, so that nothing can come after it
        rows = list(parse_rows(file.read_lines(to_end=over)))
        for config in (row["config"] for row in rows if isinstance(row.get("config"), dict)):
            run.config.update(config, allow_val_change=True)  # type: ignore[no-untyped-call]
        newest = newest_steps(rows)
        for row in newest:
            if row["step"] > last:
                run.log(_to_wandb(row), step=row["step"], commit=True)
        last = max([last, *(row["step"] for row in newest)])
        if newest:
            complete = newest[-1]["step"] >= newest[-1].get("total", math.inf)
        if not complete and not over:
            time.sleep(POLL_S)
    return last, complete


def _to_wandb(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as W&B wants it, at the time at which it was written."""
    values = {name: value for name, value in row.items() if name not in ("step", "total", "time")}
    return {**values, "_timestamp": row["time"]} if "time" in row else values


def _open(target: WandbTarget, training: Training) -> Run:
    import wandb

    # The machine's load and hardware are of interest where the training runs.
    settings = wandb.Settings(
        x_disable_meta=training.ended,
        x_disable_stats=training.ended,
        x_disable_machine_info=training.ended,
        x_stats_pid=training.parent,
        x_file_stream_transmit_interval=TRANSMIT_S,
        x_file_stream_retry_max=NUM_RETRIES,
    )
    return wandb.init(
        id=target.run_id,
        entity=target.entity,
        project=target.project,
        name=target.name,
        group=target.group,
        job_type=target.job_type,
        tags=target.tags or None,
        notes=target.notes,
        config={"pipeline_run": target.group, "stage": target.job_type},
        resume="allow",
        settings=settings,
    )


def _ask_last_step(run_path: str, *, expected: int) -> int:
    """The last step that the server has; asks again for some seconds where that is not yet the expected one."""
    import wandb

    step = -1
    for attempt in range(NUM_ASKS):
        time.sleep(POLL_S if attempt else 0.0)
        step = wandb.Api(timeout=ASK_TIMEOUT_S).run(run_path).lastHistoryStep
        if step >= expected:
            break
    return step
