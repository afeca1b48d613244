"""Run a planned stage on Slurm: attach to its job or submit one, watch it, and go on until the stage is done."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nemo_runspec.config import save_configs
from nemo_runspec.errors import RunspecError, SlurmRefused, StageCancelled, StageFailed
from nemo_runspec.jobs import local
from nemo_runspec.metrics_log import saved_step
from nemo_runspec.packaging import write_package
from nemo_runspec.profiles import Profile
from nemo_runspec.settings import load_settings
from nemo_runspec.slurm.cancel import cancel_attempt
from nemo_runspec.slurm.client import SlurmClient
from nemo_runspec.slurm.hosts import Host, LocalHost, SshHost
from nemo_runspec.slurm.job_script import check_path, render_job_script, submit_options
from nemo_runspec.slurm.ledger import Attempt, Verdict, attempts, open_attempt, verdict_without_run
from nemo_runspec.slurm.login_node import check_login_node
from nemo_runspec.slurm.logs import LogFollower
from nemo_runspec.slurm.monitor import monitor_of
from nemo_runspec.slurm.retries import decide
from nemo_runspec.slurm.spec import JobSpec
from nemo_runspec.slurm.states import Ending
from nemo_runspec.slurm.submit import submit_once
from nemotron.tasks.interrupts import Detached, Interrupts, ignoring_sigterm
from nemotron.tasks.job_files import build_job_files
from nemotron.tasks.job_index import add_follower, other_drivers, remember
from nemotron.tasks.job_request import build_spec
from nemotron.tasks.progress import follow_progress, show_lines
from nemotron.tasks.run_local import CHECK_S, SHOWN_LINES, script_error

if TYPE_CHECKING:
    from nemotron.tasks.plan import StagePlan
    from nemotron.tasks.stage_options import StageOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SlurmRun:
    """One stage on one cluster."""

    plan: StagePlan
    options: StageOptions
    env: Mapping[str, str]
    interrupts: Interrupts
    host: Host
    is_published: Callable[[Attempt], bool]

    @property
    def client(self) -> SlurmClient:
        """Slurm on that host."""
        return SlurmClient(host=self.host)

    @property
    def spec(self) -> JobSpec:
        """What the stage asks of Slurm."""
        return build_spec(self.plan.stage, self.plan.runspec, self.plan.profile, self.options)

    def run(self) -> list[Verdict]:
        """Return the verdicts on the attempts that were followed, the last of them COMPLETED.

        Raises:
            StageFailed: what ended the stage, with job, nodes, log and its last lines.
            StageCancelled: somebody wanted it ended.
            Detached: the person left; the job goes on.
        """
        attempt = self.current_attempt()
        first_step, history = attempt.intent.first_step, list[Verdict]()
        with follow_progress(self.plan.stage.name, self.metrics):
            while True:
                history.append(self.follow(attempt))
                profile, reason = self.plan.profile, script_error(attempt.log_path, begin=0)
                following = decide(
                    history,
                    first_step=first_step,
                    infrastructure_retries=profile.infrastructure_retries,
                    failure_retries=profile.failure_retries,
                    gave_reason=reason is not None,
                )
                if following.action == "done":
                    return history
                if following.action == "stop":
                    failed = history[-1].ending is Ending.FAILED
                    raise self.failure(attempt, history[-1], (failed and reason) or following.why)
                logger.warning("%s: %s", self.plan.stage.name, following.why)
                self.pause(attempt, following.delay_s)
                attempt = self.open(attempt.intent.number + 1, exclude=following.exclude)

    @property
    def metrics(self) -> Path:
        """Where the stage logs its steps and checkpoints."""
        return self.plan.work_dir / "metrics.jsonl"

    def current_attempt(self) -> Attempt:
        """The attempt to follow: one that is not over, else a new one."""
        known = attempts(self.plan.work_dir)
        if not known:
            return self.open(1)
        last = known[-1]
        verdict = last.verdict()
        if verdict is None and last.is_cancelled():  # finish that cancel first: two jobs must not share a stage
            cancel_attempt(last, self.client, why="an earlier cancel was cut short")
        elif verdict is None or (verdict.ending is Ending.COMPLETED and self.is_published(last)):
            logger.info("%s: attached to %s", self.plan.stage.name, last.intent.key)
            return last
        return self.open(last.intent.number + 1)

    def open(self, number: int, *, exclude: tuple[str, ...] = ()) -> Attempt:
        """The attempt of that number, made now unless somebody has made it.

        Raises:
            ConfigError: the login node does not see the directories that the job needs.
        """
        if number == 1:  # later ones wait while the login node is away
            check_login_node(self.host, self.options.job_folders(self.plan.profile))
        attempt = open_attempt(
            self.plan.work_dir.absolute(),
            number=number,
            stage=self.plan.stage.name,
            run_id=self.options.run_id,
            profile=self.options.profile or "",
            fingerprint=self.plan.fingerprint,
            first_step=saved_step(self.metrics),
            exclude=exclude,
        )
        remember(attempt, self.options.home)
        return attempt

    def follow(self, attempt: Attempt) -> Verdict:
        """Submit the attempt if nobody has, and watch it to its end."""
        add_follower(attempt, self.options.run_id)
        if (known := attempt.verdict()) is not None:
            return known
        try:
            job_id = attempt.job_id() or self.submit(attempt)
            return self.watch(attempt, job_id)
        except SlurmRefused as error:
            return attempt.record_verdict(verdict_without_run(Ending.REFUSED, None, str(error)))
        except KeyboardInterrupt:
            name = f"{self.plan.stage.name}: job {attempt.job_id() or attempt.intent.key}"
            if self.interrupts.on_ctrl_c(name) == "detach":
                raise Detached from None
            self.cancel(attempt, why="Ctrl-C")
            raise
        except StageCancelled:
            raise
        except BaseException:  # told to end, as by SIGTERM: the job is ended only if somebody cancelled the run
            self.check_cancelled(attempt, now=True)
            raise

    def submit(self, attempt: Attempt) -> int:
        """The id of the attempt's job, submitted now unless it is there."""
        intent = attempt.intent

        def submit(exclude: Sequence[str]) -> int:
            return submit_once(
                attempt,
                self.client,
                sbatch_options(attempt, self.plan.profile, exclude=exclude),
                prepare=lambda: self.write_files(attempt),
                pause=lambda seconds: self.pause(attempt, seconds),
            )

        try:
            job_id = submit(intent.exclude)
        except SlurmRefused:
            if not intent.exclude:
                raise
            logger.warning("%s: refused without %s; asking for any node", intent.stage, ",".join(intent.exclude))
            job_id = submit(())
        logger.info("%s: job %d, log: %s", intent.stage, job_id, attempt.log_path)
        return job_id

    def write_files(self, attempt: Attempt) -> None:
        """All that the job reads, into the attempt's directory; the same whoever writes it."""
        check_path(attempt.folder)
        folder, plan = attempt.folder, self.plan
        files = build_job_files(plan, self.options, self.env, folder)
        write_package(files.code, folder / "code")
        save_configs(plan.job_config, files.train, folder)
        self.host.write(folder / "env.sh", files.env_sh, mode=0o600)
        self.host.write(folder / "payload.sh", files.payload_sh, mode=0o644)
        self.host.write(folder / "job.sh", render_job_script(files.rendered, attempt), mode=0o644)

    def watch(self, attempt: Attempt, job_id: int) -> Verdict:
        """The verdict on the job; raises StageCancelled when the run is cancelled meanwhile."""
        spec, stage = self.spec, self.plan.stage.name
        poll_s = load_settings().poll_interval_s or self.plan.profile.poll_interval_s
        monitor = monitor_of(self.host, poll_s=poll_s)
        job = monitor.watch(attempt, job_id, num_gpus=spec.nodes * spec.gpus_per_node)
        log = LogFollower(path=attempt.log_path)
        try:
            while True:
                verdict = monitor.wait(job, timeout_s=CHECK_S)
                if self.options.show_logs:
                    show_lines(stage, log.read_lines(to_end=verdict is not None), log.path)
                if verdict is not None:
                    if attempt.is_cancelled() and verdict.ending is not Ending.COMPLETED:
                        raise StageCancelled(f"{stage}: job {job.job_id} was cancelled")
                    return verdict
                if job.hopeless:
                    ending = Ending.DEPENDENCY if job.reason == "DependencyNeverSatisfied" else Ending.LAUNCH_FAILED
                    return cancel_attempt(attempt, self.client, why=job.reason, ending=ending)
                self.check_cancelled(attempt)
        finally:
            monitor.forget(job)

    def check_cancelled(self, attempt: Attempt, *, now: bool = False) -> None:
        """End the job, and raise StageCancelled, if the run was cancelled."""
        if not self.interrupts.is_cancelled(now=now):
            return
        with ignoring_sigterm():
            try:
                is_gone = self.cancel(attempt, why="the run was cancelled")
                left = "its job is gone" if is_gone else "its job goes on, another run waits for it"
            except RunspecError as error:  # the ledger has the cancel: the next start, or the reaper, ends the job
                left = f"its job may go on until the reaper ends it: {error}"
        raise StageCancelled(f"{self.plan.stage.name}: the run was cancelled; {left}")

    def pause(self, attempt: Attempt, delay_s: float) -> None:
        """Wait, and look for a cancel meanwhile."""
        deadline = time.monotonic() + delay_s
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, CHECK_S))
            self.check_cancelled(attempt)

    def cancel(self, attempt: Attempt, *, why: str) -> bool:
        """End the attempt's job, unless another run waits for it; whether it is gone."""
        if others := other_drivers(attempt, self.options.home, self.options.run_id):
            logger.warning("%s: its job goes on, run %s waits for it", self.plan.stage.name, ", ".join(others))
            return False
        cancel_attempt(attempt, self.client, why=why)
        return True

    def failure(self, attempt: Attempt, verdict: Verdict, why: str) -> StageFailed:
        """The error to show: what, where, why, and the end of the log."""
        stage = self.plan.stage.name
        lines = local.tail(attempt.log_path, begin=0)[-SHOWN_LINES:]
        code = f", exit code {verdict.exit_code}" if verdict.exit_code not in ("", "0:0") else ""
        head = f"{stage}: job {verdict.job_id} ended as {verdict.ending}{code} on {verdict.nodes or 'no node'}"
        because = "; ".join(filter(None, [why, verdict.reason if verdict.ending is Ending.REFUSED else ""]))
        said = [f"{head}: {because}" if because else head, f"    key {attempt.intent.key}, log: {attempt.log_path}"]
        message = "\n".join([*said, *(f"    {line}" for line in lines)])
        return StageFailed(message, exit_code=shell_code(verdict.exit_code))


def sbatch_options(attempt: Attempt, profile: Profile, *, exclude: Sequence[str] = ()) -> list[str]:
    """The attempt's own options of sbatch; `exclude` are nodes beyond those of the profile."""
    return submit_options(
        attempt,
        stop_before_end_s=profile.stop_before_end_s,
        requeue=profile.requeue,
        exclude=[*([profile.exclude] if profile.exclude else []), *exclude],
    )


def shell_code(exit_code: str) -> int:
    """Slurm's `code:signal` as a shell tells it: 128 + N for signal N; 1 where neither says anything."""
    code, _, signum = exit_code.partition(":")
    if code.isdecimal() and int(code):
        return int(code)
    return 128 + int(signum) if signum.isdecimal() and int(signum) else 1


def connect(profile: Profile) -> Host:
    """The host that a profile names."""
    if profile.tunnel == "local":
        return LocalHost()
    assert profile.host is not None
    return SshHost(
        host=profile.host,
        user=profile.user,
        port=profile.port,
        identity=profile.identity,
        control_dir=Path(tempfile.gettempdir()) / f"nemotron-ssh-{os.getuid()}",
    )
