"""Shows a running stage: a rich bar with loss, tokens/s and ETA on a terminal, plain lines elsewhere.

It reads the metrics file that the recipe writes, so it works the same for any way of running a stage.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nemotron.tasks.live_metrics import LiveMetrics

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

POLL_S = 0.5
PLAIN_EVERY_S = 10.0
SHOWN = ("loss", "reward", "tokens_per_s", "grad_norm")
SENT_LINES = 20

run_log = logging.getLogger("nemotron_run_log")
"""What a run's log elsewhere is to have and the terminal shows in another form; hence not below `nemotron`."""


@contextmanager
def follow_progress(stage: str, path: Path, *, live: bool | None = None) -> Iterator[None]:
    """Show the stage's progress while the block runs; `live` None means: if standard error is a terminal."""
    stop = threading.Event()
    bar = sys.stderr.isatty() if live is None else live
    target = _follow_bar if bar else _follow_lines
    thread = threading.Thread(target=target, args=(stage, path, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=5.0)


def show_lines(stage: str, lines: Sequence[str], log_path: Path) -> None:
    """Print what the stage has printed in the last second, above a progress bar if there is one.

    The last of these lines go to `run_log`.
    """
    with contextlib.suppress(BrokenPipeError):  # nobody reads it any more; the stage goes on
        for line in lines:
            sys.stderr.write(f"{stage} | {line}\n")
    if (num_left_out := len(lines) - SENT_LINES) > 0:
        run_log.info("%s | … %d lines more in %s", stage, num_left_out, log_path)
    for line in lines[-SENT_LINES:]:
        run_log.info("%s | %s", stage, line)


def describe(row: Mapping[str, float], *, separator: str = "  ") -> str:
    """`loss 3.215  tokens/s 9,120` of one metrics row."""
    return separator.join(f"{name.replace('_per_', '/')} {show_number(row[name])}" for name in SHOWN if name in row)


def show_number(value: float) -> str:
    """`9,120`, `3.215`, `2.5e-05`."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:.3g}"


def _follow_bar(stage: str, path: Path, stop: threading.Event) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(stage, total=None, info="")
        metrics = LiveMetrics(path=path)
        while not stop.wait(POLL_S):
            _update(progress, task, metrics)
        _update(progress, task, metrics)


def _update(progress: Progress, task: TaskID, metrics: LiveMetrics) -> None:
    metrics.look()
    if last := metrics.last:
        progress.update(task, total=last["total"], completed=last["step"], info=describe(last))


def _follow_lines(stage: str, path: Path, stop: threading.Event) -> None:
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"{stage}: started")
    metrics, shown_step, shown_at, started = LiveMetrics(path=path), 0.0, time.monotonic(), time.monotonic()
    while not stop.wait(POLL_S):
        if time.monotonic() - shown_at < PLAIN_EVERY_S:
            continue
        shown_at = time.monotonic()
        metrics.look()
        row = metrics.last
        if row and row["step"] != shown_step:
            shown_step = row["step"]
            console.print(f"{stage}: {row['step']:.0f}/{row['total']:.0f}  {describe(row)}")
    console.print(f"{stage}: ended after {time.monotonic() - started:.1f} s")
