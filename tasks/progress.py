"""Shows a running stage: a rich bar with loss, tokens/s and ETA on a terminal, plain lines elsewhere.

It reads the metrics file that the recipe writes, so it works the same for any way of running a stage.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nemo_runspec.metrics_log import read_metrics

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

POLL_S = 0.5
PLAIN_EVERY_S = 10.0
SHOWN = ("loss", "reward", "tokens_per_s", "grad_norm")


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


def show_lines(stage: str, lines: Sequence[str]) -> None:
    """Print what the stage prints, above a progress bar if there is one."""
    with contextlib.suppress(BrokenPipeError):  # nobody reads it any more; the stage goes on
        for line in lines:
            sys.stderr.write(f"{stage} | {line}\n")


def describe(row: Mapping[str, float]) -> str:
    """`loss 3.21  tokens/s 9,120` of one metrics row."""
    return "  ".join(f"{name.replace('_per_', '/')} {_number(row[name])}" for name in SHOWN if name in row)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"


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
        while not stop.wait(POLL_S):
            _update(progress, task, path)
        _update(progress, task, path)


def _update(progress: Progress, task: TaskID, path: Path) -> None:
    rows = read_metrics(path)
    if rows:
        last = rows[-1]
        progress.update(task, total=last["total"], completed=last["step"], info=describe(last))


def _follow_lines(stage: str, path: Path, stop: threading.Event) -> None:
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"{stage}: started")
    shown_step, shown_at, started = 0.0, time.monotonic(), time.monotonic()
    while not stop.wait(POLL_S):
        if time.monotonic() - shown_at < PLAIN_EVERY_S:
            continue
        shown_at = time.monotonic()
        rows = read_metrics(path)
        if rows and rows[-1]["step"] != shown_step:
            row = rows[-1]
            shown_step = row["step"]
            console.print(f"{stage}: {row['step']:.0f}/{row['total']:.0f}  {describe(row)}")
    console.print(f"{stage}: ended after {time.monotonic() - started:.1f} s")
