"""Asks Slurm. A question that gets no answer raises `SlurmUnreachable`; it never means that there is no such job."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_runspec.errors import SlurmRefused, SlurmUnreachable
from nemo_runspec.slurm import text
from nemo_runspec.slurm.hosts import Host
from nemo_runspec.slurm.states import Accounting, has_ended

QUERY_TIMEOUT_S = 60.0
SUBMIT_TIMEOUT_S = 120.0
# slurm_errno(1): the request may have been carried out, or the controller is away for now.
_AMBIGUOUS = re.compile(
    r"(?i)timed out|unable to contact|connection refused|connection reset|send/recv|zero bytes|slurm_receive|"
    r"communication|shutting down|temporarily|try again|error sending|unexpected message|in progress"
)
_NO_ACCOUNTING = "accounting storage is disabled"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A job known by its name, in the queue or in accounting."""

    job_id: int
    submitted: float | None
    ended: bool


@dataclass(frozen=True, kw_only=True)
class SlurmClient:
    """Slurm as the programs on `host` show it."""

    host: Host

    def submit(self, script: Path, options: Sequence[str]) -> int:
        """Submit the batch script; returns the job's id.

        Raises:
            SlurmRefused: Slurm said no; there is no job.
            SlurmUnreachable: whether there is a job is not known.
        """
        done = self.host.run(["sbatch", "--parsable", *options, str(script)], timeout_s=SUBMIT_TIMEOUT_S)
        job_id = text.parse_job_id(done.out)
        if done.code == 0 and job_id is not None:
            return job_id
        said = " ".join(line.strip() for line in done.err.splitlines() if line.strip()) or f"exit code {done.code}"
        if done.code == 0 or done.code < 0 or _AMBIGUOUS.search(said):
            raise SlurmUnreachable(f"sbatch: {said}")
        raise SlurmRefused(f"sbatch refused: {said}")

    def find(self, name: str, *, since: float) -> list[Found]:
        """All jobs of that name submitted since, oldest first: those in the queue and those in accounting.

        Where the site keeps no accounting, the queue alone is asked.
        """
        found = {
            row.job_id: Found(job_id=row.job_id, submitted=row.submitted, ended=has_ended(row.state))
            for row in self._queued(name)
        }
        for account in self._ask_accounting(text.sacct_by_name(name, since=since)):
            if account.name == name and account.job_id not in found:
                ended = has_ended(account.state)
                found[account.job_id] = Found(job_id=account.job_id, submitted=account.submitted, ended=ended)
        return [found[job_id] for job_id in sorted(found)]

    def is_queued(self, name: str) -> bool:
        """Whether a job of that name is in the queue and has not ended."""
        return any(not has_ended(row.state) for row in self._queued(name))

    def queue(self) -> list[text.QueueRow]:
        """All jobs of this user that slurmctld knows, one question for any number of them."""
        return text.parse_queue(self._ask(text.squeue_mine()))

    def accounting(self, job_ids: Sequence[int]) -> dict[int, Accounting]:
        """What accounting holds of these jobs; those it has not heard of are left out."""
        rows = [row for command in text.sacct_by_ids(job_ids) for row in self._ask_accounting(command)]
        return {row.job_id: row for row in rows}

    def cancel(self, name: str, job_ids: Sequence[int]) -> None:
        """Ask for the end of these jobs and of all of that name; that Slurm said yes proves nothing."""
        self._ask(["scancel", f"--name={name}"])
        if job_ids:
            self._ask(["scancel", *map(str, job_ids)])

    def _queued(self, name: str) -> list[text.QueueRow]:
        return [row for row in text.parse_queue(self._ask(text.squeue_by_name(name))) if row.name == name]

    def _ask(self, command: list[str]) -> str:
        done = self.host.run(["env", "TZ=UTC", *command], timeout_s=QUERY_TIMEOUT_S)
        if done.code != 0:
            raise SlurmUnreachable(f"{command[0]}: {' '.join(done.err.split()) or f'exit code {done.code}'}")
        return done.out

    def _ask_accounting(self, command: list[str]) -> list[Accounting]:
        try:
            return text.parse_accounting(self._ask(command))
        except SlurmUnreachable as error:
            if _NO_ACCOUNTING in str(error):
                return []
            raise
