"""One watcher for all jobs of this process: one squeue a poll, one sacct now and then for those that left the queue.

No verdict and no cancel ever comes from a question that was not answered.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from pathlib import Path

from nemo_runspec.errors import SlurmError
from nemo_runspec.jobs.local import tail
from nemo_runspec.metrics_log import saved_step
from nemo_runspec.slurm.client import SlurmClient
from nemo_runspec.slurm.hosts import Host
from nemo_runspec.slurm.job_script import read_done
from nemo_runspec.slurm.ledger import Attempt, Verdict
from nemo_runspec.slurm.states import (
    DOUBTFUL_REASONS,
    HOPELESS_REASONS,
    Accounting,
    DoneRecord,
    Ending,
    has_ended,
    judge,
)
from nemo_runspec.slurm.submit import read_claim
from nemo_runspec.slurm.text import QueueRow

logger = logging.getLogger(__name__)

DEFAULT_POLL_S = 20.0
MIN_POLL_S = 3.0
ACCOUNTING_GRACE_S = 60.0
"""How long a job that has ended may lack its row in accounting before what else is known of it is taken."""
LOST_AFTER_S = 180.0
"""How long a job may be unknown to everybody, without a sign of life, before it is given up."""
_LAUNCH_ERROR = re.compile(
    r"srun: error: (Task launch for|Application launch failed|Node failure on|Unable to create step)"
)
_REQUEUES = frozenset({"NODE_FAIL", "BOOT_FAIL", "PREEMPTED"})


@dataclass(kw_only=True)
class Watched:
    """A job under watch; `state` and `nodes` are squeue's last word, `verdict` is there once it ended.

    `context` is that of who watches it: what is logged of the job belongs to the flow run that goes on there.
    """

    attempt: Attempt
    job_id: int
    num_gpus: int = 0
    state: str = "PENDING"
    reason: str = ""
    nodes: str = ""
    submitted: float | None = None
    started: float | None = None
    verdict: Verdict | None = None
    hopeless: bool = False
    gone_since: float | None = None
    ended: float | None = None
    heartbeat: float = 0.0
    heartbeat_seen: float = 0.0
    context: Context = field(default_factory=copy_context)


@dataclass
class Monitor:
    """Polls in a thread of its own as long as there is a job to watch; `clock` is monotonic, in seconds."""

    client: SlurmClient
    poll_s: float = DEFAULT_POLL_S
    clock: Callable[[], float] = time.monotonic
    _jobs: dict[str, Watched] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None
    _asked: deque[float] = field(default_factory=deque)
    _asked_accounting: float | None = None
    _failing: bool = False
    _hurry: bool = False

    def watch(self, attempt: Attempt, job_id: int, *, num_gpus: int) -> Watched:
        """Start to watch a job; what is returned is kept up to date."""
        with self._changed:
            job = self._jobs.setdefault(attempt.intent.key, Watched(attempt=attempt, job_id=job_id, num_gpus=num_gpus))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="slurm-monitor", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return job

    def wait(self, job: Watched, *, timeout_s: float) -> Verdict | None:
        """The verdict, once there is one within `timeout_s` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: job.verdict is not None, timeout=timeout_s)
        if job.verdict is None and (job.attempt.folder / "done.json").exists():
            self.hurry()
        return job.verdict

    def find(self, attempt: Attempt) -> Watched | None:
        """What is known of the attempt's job, None if it is not watched now."""
        with self._changed:
            return self._jobs.get(attempt.intent.key)

    def forget(self, job: Watched) -> None:
        """Stop watching."""
        with self._changed:
            self._jobs.pop(job.attempt.intent.key, None)

    def hurry(self) -> None:
        """Poll soon: there is a sign that something ended."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                jobs = [job for job in self._jobs.values() if job.verdict is None]
                if not jobs:
                    self._thread = None
                    return
            try:
                jobs[0].context.copy().run(self.poll, jobs)
            except Exception:  # the watch must go on, whatever one poll met
                logger.exception("the watch over Slurm jobs met an error; it goes on")
            self._pause()

    def _pause(self) -> None:
        begun = self.clock()
        with self._changed:
            while (passed := self.clock() - begun) < self.poll_s:
                if self._hurry and passed >= min(MIN_POLL_S, self.poll_s) and self._may_ask():
                    break
                self._changed.wait(timeout=0.5)
            self._hurry = False

    def _may_ask(self) -> bool:
        """Whether an early poll keeps within the commands a minute that regular polls need, and one more."""
        while self._asked and self._asked[0] < self.clock() - 60:
            self._asked.popleft()
        return len(self._asked) < 60 / self.poll_s

    def poll(self, jobs: list[Watched]) -> None:
        """Look once at all these jobs."""
        rows = self._queue()
        if rows is None:
            return
        gone = [job for job in jobs if not self._update(job, rows.get(job.attempt.intent.key, []))]
        accounting = self._accounting(gone) if gone else {}
        for job in gone:
            self._settle(job, accounting)

    def _queue(self) -> dict[str, list[QueueRow]] | None:
        self._asked.append(self.clock())
        try:
            rows = self.client.queue()
        except SlurmError as error:
            self._report_failure(error)
            return None
        if self._failing:
            logger.info("Slurm answers again")
        self._failing = False
        by_name: dict[str, list[QueueRow]] = {}
        for row in rows:
            by_name.setdefault(row.name, []).append(row)
        return by_name

    def _report_failure(self, error: SlurmError) -> None:
        if not self._failing:
            logger.warning("%s; jobs go on, their state is not known until it answers again", error)
        self._failing = True

    def _update(self, job: Watched, rows: list[QueueRow]) -> bool:
        """Take over what the queue says; whether the job is live."""
        job_id, row = choose_job(rows, known=job.job_id, claimed=read_claim(job.attempt.folder))
        if job_id != job.job_id:
            logger.warning("%s: job %d does this attempt, not %d", job.attempt.intent.stage, job_id, job.job_id)
            job.job_id, job.state, job.reason, job.nodes = job_id, "PENDING", "", ""
            job.submitted = job.started = job.ended = job.gone_since = None
        if row is None:
            return False
        changed = (row.state, row.reason) != (job.state, job.reason)
        job.state, job.reason = row.state, row.reason
        job.nodes = row.nodes or job.nodes
        job.submitted = row.submitted or job.submitted
        job.started = row.started or job.started
        if changed:
            job.context.copy().run(_tell, job)
        if has_ended(row.state):
            job.ended = row.ended
            return False
        job.gone_since = None
        job.hopeless = row.reason in HOPELESS_REASONS
        return True

    def _accounting(self, gone: list[Watched]) -> dict[int, Accounting] | None:
        """What accounting says of these; None when it was not asked, because that was lately, or did not answer."""
        now = self.clock()
        if self._asked_accounting is not None and now - self._asked_accounting < 3 * self.poll_s:
            return None
        self._asked_accounting = now
        self._asked.append(now)
        try:
            return self.client.accounting([job.job_id for job in gone])
        except SlurmError as error:
            self._report_failure(error)
            return None

    def _settle(self, job: Watched, accounting: dict[int, Accounting] | None) -> None:
        """Give a verdict on a job that the queue no longer shows as live, if enough is known."""
        now = self.clock()
        job.gone_since = now if job.gone_since is None else job.gone_since
        done = read_done(self._read(job, "done.json"))
        done = done if done and done.job_id == job.job_id else None
        row = (accounting or {}).get(job.job_id)
        row = row if row and row.name == job.attempt.intent.key and has_ended(row.state) else None
        waited = now - job.gone_since
        queue_word = job.state if has_ended(job.state) else None
        if not is_settled(
            queue_word=queue_word,
            accounting=row,
            asked=accounting is not None,
            done=done,
            waited_s=waited,
            alive=self._is_alive(job, now),
        ):
            return
        claimed = read_claim(job.attempt.folder) is not None
        launch_error = find_launch_error(job.attempt.log_path)
        ending = judge(
            state=queue_word,
            reason=job.reason,
            accounting=row,
            done=done,
            claimed=claimed,
            launch_failed=launch_error is not None,
        )
        verdict = Verdict(
            ending=ending,
            job_id=job.job_id,
            exit_code=exit_code_of(row, done),
            reason=(launch_error if ending is Ending.LAUNCH_FAILED else None) or job.reason.replace("None", ""),
            nodes=(row.nodes if row else "") or job.nodes or (done.nodes if done else ""),
            submitted=(row.submitted if row else None) or job.submitted,
            started=(row.started if row else None) or (done.started if done else None) or job.started,
            ended=(row.ended if row else None) or (done.ended if done else None) or job.ended,
            num_gpus=row.num_gpus if row else job.num_gpus,
            saved_step=saved_step(job.attempt.folder.parent.parent / "metrics.jsonl"),
        )
        with self._changed:
            job.verdict = job.attempt.record_verdict(verdict)
            self._changed.notify_all()

    def _is_alive(self, job: Watched, now: float) -> bool:
        """Whether the job's heartbeat moved lately, by this machine's clock alone."""
        try:
            heartbeat = (job.attempt.folder / "heartbeat").stat().st_mtime
        except OSError:
            return False
        if heartbeat != job.heartbeat:
            job.heartbeat, job.heartbeat_seen = heartbeat, now
        return now - job.heartbeat_seen < LOST_AFTER_S / 2

    def _read(self, job: Watched, name: str) -> bytes | None:
        try:
            return self.client.host.read(job.attempt.folder / name)
        except SlurmError:
            return None


def choose_job(rows: Sequence[QueueRow], *, known: int, claimed: int | None) -> tuple[int, QueueRow | None]:
    """Which of the jobs of an attempt's name does it, with its row in the queue: the claimant, else the known one.

    Where the queue does not have the known one and nothing was claimed, a live one counts: what sbatch printed may have
    been misread among what a site's plugins print. Pure.
    """
    job_id = claimed or known
    row = next((row for row in rows if row.job_id == job_id), None)
    if row is None and claimed is None:
        row = next((row for row in rows if not has_ended(row.state)), None)
    return (row.job_id if row else job_id), row


def is_settled(
    *,
    queue_word: str | None,
    accounting: Accounting | None,
    asked: bool,
    done: DoneRecord | None,
    waited_s: float,
    alive: bool,
) -> bool:
    """Whether what is known of a job that is not live suffices for a verdict. Pure.

    `accounting` is its row there if that says ended, `asked`: accounting answered in this poll; `waited_s`: seconds
    since the queue first no longer showed it as live.
    """
    word = accounting.state if accounting else queue_word
    if word in _REQUEUES and waited_s <= 0:
        return False  # Slurm may be about to requeue it; the next poll tells
    if word == "COMPLETED" and done is None and waited_s < ACCOUNTING_GRACE_S:
        return False  # on a shared file system what the job wrote may be seen later than its end
    if accounting is not None:
        return True
    if done is not None and (done.exit_code == 0 or waited_s >= ACCOUNTING_GRACE_S):
        return True
    if queue_word is not None:
        return waited_s >= ACCOUNTING_GRACE_S
    return asked and not alive and waited_s >= LOST_AFTER_S


def exit_code_of(accounting: Accounting | None, done: DoneRecord | None) -> str:
    """`code:signal`; of a job that failed while slurmdbd was down accounting says 0:0 for ever (Slurm 22.05)."""
    known = accounting.exit_code if accounting else ""
    lacking = known == "" or (known == "0:0" and accounting is not None and accounting.state == "FAILED")
    return f"{done.exit_code}:0" if lacking and done else known


def find_launch_error(log_path: Path) -> str | None:
    """What srun printed last when it could not start its tasks, as on a node that died; None if it did not."""
    found = [line for line in tail(log_path, begin=0) if _LAUNCH_ERROR.match(line)]
    return found[-1] if found else None


def _tell(job: Watched) -> None:
    stage, why = job.attempt.intent.stage, f" ({job.reason})" if job.reason not in ("", "None") else ""
    where = f" on {job.nodes}" if job.nodes else ""
    if job.reason in DOUBTFUL_REASONS or job.reason in HOPELESS_REASONS:
        logger.warning("%s: job %d %s%s: Slurm will not start it as it is", stage, job.job_id, job.state, why)
    else:
        logger.info("%s: job %d %s%s%s", stage, job.job_id, job.state, where, why)


_monitors: dict[tuple[Host, float], Monitor] = {}
_monitors_lock = threading.Lock()


def monitor_of(host: Host, *, poll_s: float) -> Monitor:
    """This process's one monitor for that host."""
    with _monitors_lock:
        return _monitors.setdefault((host, poll_s), Monitor(client=SlurmClient(host=host), poll_s=poll_s))


def find_watched(attempt: Attempt) -> Watched | None:
    """What this process knows of the attempt's job, None if it does not watch it now."""
    with _monitors_lock:
        monitors = list(_monitors.values())
    return next((job for monitor in monitors if (job := monitor.find(attempt)) is not None), None)
