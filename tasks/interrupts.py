"""What becomes of a running Slurm job when the person or the server that started it wants something else."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from nemo_runspec.errors import StageCancelled

Choice = Literal["detach", "cancel"]


class Detached(KeyboardInterrupt):
    """The person leaves; the job goes on."""


class CancelCheck(Protocol):
    """Says whether somebody cancelled the run. What was heard seconds ago will do, unless it must be known `now`."""

    def __call__(self, *, now: bool = False) -> bool: ...


def never(*, now: bool = False) -> bool:  # noqa: ARG001
    """No: there is no server to cancel from."""
    return False


def ask_on_terminal(job: str) -> Choice:
    """What to do after Ctrl-C: ask on a terminal, where a second Ctrl-C or the end of input cancels; else cancel."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return "cancel"
    try:
        # A whole line: a progress bar keeps what is none to itself.
        sys.stderr.write(f"\n{job} is still there. [d]etach and let it go on, or [c]ancel (or Ctrl-C)?\n")
        sys.stderr.flush()
        return "detach" if input().strip().lower().startswith("d") else "cancel"
    except (KeyboardInterrupt, EOFError):
        return "cancel"


def run_cancelled(stage: str) -> StageCancelled:
    """That the stage ended because its run was cancelled."""
    return StageCancelled(f"{stage}: the run was cancelled")


@contextmanager
def ignoring_sigterm() -> Iterator[None]:
    """For the last work of what ends anyway: a cancel comes twice, by the server's word and, from a worker, as SIGTERM.

    It does nothing outside the main thread, which alone is interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # not SIG_IGN, which children would inherit
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


@dataclass(frozen=True, kw_only=True)
class Interrupts:
    """`is_cancelled` is asked every few seconds and again when the process is told to end; `on_ctrl_c` after Ctrl-C."""

    is_cancelled: CancelCheck = never
    on_ctrl_c: Callable[[str], Choice] = ask_on_terminal


ALONE = Interrupts()
"""No server: only the person at the terminal."""


def or_when_exists(interrupts: Interrupts, path: Path) -> Interrupts:
    """The same, and cancelled too once the file is there: `nemotron runs cancel` writes it."""

    def is_cancelled(*, now: bool = False) -> bool:
        return path.exists() or interrupts.is_cancelled(now=now)

    return replace(interrupts, is_cancelled=is_cancelled)
