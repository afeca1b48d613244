"""The page of a stage that runs, in Prefect's UI: how far it is, its curve, its jobs, where its log is.

It reads files that others write and asks nobody but the Prefect server, in a thread of its own: a stage neither waits
for it nor fails with it. While the server is away the page stays as it was.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from nemo_runspec.errors import StageCancelled
from nemo_runspec.slurm.ledger import Attempt, attempts
from nemotron.flows.curve_svg import render_curve
from nemotron.flows.live_jobs import JOB_COLUMNS, job_row, spell
from nemotron.flows.markdown_text import escape, fenced, link, picture, table
from nemotron.flows.run_facts import log_commands, wandb_run_url
from nemotron.flows.ui_page import UiPage
from nemotron.tasks.flow_cancellation import flow_cancellation
from nemotron.tasks.interrupts import Detached, ignoring_sigterm, run_cancelled
from nemotron.tasks.job_index import stages_folder
from nemotron.tasks.live_metrics import LiveMetrics
from nemotron.tasks.progress import describe, show_number
from nemotron.tasks.stage_options import StageOptions

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
EVERY_S = 30.0
LAST_WITHIN_S = 15.0
"""How long a request that is under way when the stage ends may take; it gives up by itself before."""
BAR_WIDTH = 30
DOT = " · "


@contextmanager
def live_page(page: UiPage | None, stage: str, options: StageOptions) -> Iterator[None]:
    """Keep the page up to date while the block runs, if there is one; at last it says how the block failed, if so."""
    if page is None:
        yield
        return
    live, stop = LivePage(page=page, stage=stage, options=options), threading.Event()
    # Prefect's settings, and whose log this is, are in the context.
    thread = threading.Thread(target=copy_context().run, args=(live.follow, stop), name="live-page", daemon=True)
    thread.start()

    def end_thread() -> None:
        stop.set()
        thread.join(LAST_WITHIN_S)

    try:
        yield
    except BaseException as error:
        with ignoring_sigterm():
            end_thread()
            known = isinstance(error, Exception | KeyboardInterrupt)
            by_cancel = not known and flow_cancellation()(now=True)  # SIGTERM, after the stage's own end
            live.end(run_cancelled(stage) if by_cancel else error)
        raise
    end_thread()


@dataclass(kw_only=True)
class LivePage:
    """What the page says is made anew from the stage's files each time."""

    page: UiPage
    stage: str
    options: StageOptions
    _work_dir: Path | None = None
    _metrics: LiveMetrics | None = None
    _stale_link: int | None = field(init=False)
    _states: tuple[object, ...] = ()
    _due: float = 0.0

    def __post_init__(self) -> None:
        self._stale_link = self._link_time()

    def follow(self, stop: threading.Event) -> None:
        """Renew the page now and then, and soon after the state of a job changed or the first step, until `stop`."""
        while not stop.wait(LOOK_EVERY_S):
            with self._quietly():
                self.look()
                states = (self._has_begun(), *(job_row(attempt)[:3] for attempt in self._attempts()))
                if states != self._states or time.monotonic() >= self._due:
                    self._states, self._due = states, time.monotonic() + EVERY_S
                    self.put(None)

    def end(self, ended_by: BaseException) -> None:
        """Have the page say what ended the stage."""
        with self._quietly():
            self.look()
            self.put(ended_by)

    def put(self, ended_by: BaseException | None) -> None:
        """Renew the page; raises whatever the client raises."""
        self.page.put(self.render(ended_by), description=self.describe(ended_by))

    def look(self) -> None:
        """Take in what the stage has written since."""
        if self._work_dir is None and self._link_time() not in (None, self._stale_link):
            self._work_dir = self._link.resolve()
            self._metrics = LiveMetrics(path=self._work_dir / "metrics.jsonl")
        if self._metrics is not None:
            self._metrics.look()

    def describe(self, ended_by: BaseException | None) -> str:
        """A line for lists of pages, which name the stage and cut it after some 40 characters."""
        row = self._metrics.last if self._metrics else {}
        step = f"step {row['step']:,}/{row.get('total', 0):,}" if row else ""
        parts = [ending(ended_by), step, describe(row, separator=DOT), self._left(ended_by)]
        return DOT.join(filter(None, parts))

    def render(self, ended_by: BaseException | None) -> str:
        """The page as Markdown."""
        parts = [f"## {escape(self.stage)}: {ending(ended_by)}", _why(ended_by)]
        if self._metrics is not None and self._work_dir is not None:
            parts += self._render_metrics(self._metrics, self._left(ended_by))
            followed = self._attempts()
            parts += [
                table(JOB_COLUMNS, [job_row(attempt) for attempt in followed]),
                f"W&B: {link(url, url)}" if (url := wandb_run_url(self._metrics.path)) else "",
                fenced(commands) if (commands := log_commands(self._work_dir, followed)) else "",
            ]
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC on {escape(socket.gethostname())}"
        parts.append(f"As of {now}." if ended_by else f"As of {now}; renewed every {EVERY_S:.0f} s, reload to see it.")
        return "\n\n".join(filter(None, parts))

    def _render_metrics(self, metrics: LiveMetrics, left: str) -> list[str]:
        row = metrics.last
        if not row:
            return []
        full = round(BAR_WIDTH * metrics.fraction)
        bar = f"`{'█' * full}{'░' * (BAR_WIDTH - full)}`"
        step = f"step {row['step']:,} of {row.get('total', 0):,}"
        values = {name: value for name, value in row.items() if name not in ("step", "total", "time")}
        shown = {name.replace("_per_", "/"): show_number(v) for name, v in values.items() if isinstance(v, int | float)}
        return [
            DOT.join(filter(None, [f"{bar} {metrics.fraction:.0%}", step, left])),
            table(list(shown), [list(shown.values())]) if shown else "",
            picture(*curve) if (curve := draw(metrics)) else "",
        ]

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever the files, the client and the server may raise; next time may be better
            logger.debug("%s: its page is not renewed: %s", self.stage, error)

    def _has_begun(self) -> bool:
        return self._metrics is not None and bool(self._metrics.last)

    def _attempts(self) -> list[Attempt]:
        return attempts(self._work_dir) if self._work_dir else []

    def _left(self, ended_by: BaseException | None) -> str:
        seconds = self._metrics.seconds_left if self._metrics and ended_by is None else None
        return f"about {spell(seconds)} left" if seconds else ""

    @property
    def _link(self) -> Path:
        return stages_folder(self.options.home, self.options.run_id) / self.stage

    def _link_time(self) -> int | None:
        """When the stage said where it works; an earlier attempt of the run may have, too."""
        try:
            return self._link.lstat().st_mtime_ns
        except OSError:
            return None


def draw(metrics: LiveMetrics) -> tuple[str, str] | None:
    """The name of the metric that says most, and its curve as SVG; None if none was logged."""
    curve = metrics.curve()
    return (curve[0], render_curve(*curve, total=metrics.last.get("total"))) if curve else None


def ending(ended_by: BaseException | None) -> str:
    """In a word or two."""
    match ended_by:
        case None:
            return "running"
        case Detached():
            return "goes on in the background"
        case StageCancelled():
            return "cancelled"
        case Exception():
            return "failed"
        case _:
            return "interrupted"


def _why(ended_by: BaseException | None) -> str:
    """The error: its first line as text, which a narrow page wraps, and as it is what follows, as the end of a log."""
    first, _, rest = str(ended_by).strip().partition("\n") if isinstance(ended_by, Exception) else ("", "", "")
    return "\n\n".join([escape(first), *([fenced(rest)] if rest else [])])
