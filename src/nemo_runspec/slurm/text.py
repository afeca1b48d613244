"""The command lines of Slurm's programs and what they print, as data. Pure; text formats that all versions share.

Times are UTC: the commands must run with `TZ=UTC`, because the cluster may live in another time zone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from nemo_runspec.slurm.states import Accounting, first_word

# squeue(1): --Format pads and cuts, -o with %fields does neither. The name comes last: it may hold any character.
_QUEUE_FORMAT = "%A|%T|%V|%S|%e|%N|%r|%j"
_ACCOUNTING_FIELDS = "JobIDRaw,State,ExitCode,DerivedExitCode,Submit,Start,End,NodeList,AllocTRES,Reason,JobName"
_CHUNK = 500  # job ids a command line; beyond some thousands sacct is refused by the kernel (E2BIG)
_JOB_ID = re.compile(r"^(\d+)(;[^\s;]+)?$", re.MULTILINE)
_GPUS = re.compile(r"(?:^|,)gres/gpu=(\d+)")


@dataclass(frozen=True, kw_only=True)
class QueueRow:
    """A job in squeue; times in seconds since the epoch, of a live job `ended` is when its time limit is."""

    job_id: int
    name: str
    state: str
    reason: str
    nodes: str
    submitted: float | None
    started: float | None
    ended: float | None


def squeue_mine() -> list[str]:
    """All jobs of the user who asks, ended ones as long as slurmctld remembers them."""
    return ["squeue", "-h", "-a", "-t", "all", "--me", "-o", _QUEUE_FORMAT]


def squeue_by_name(name: str) -> list[str]:
    """The jobs of that name."""
    return ["squeue", "-h", "-a", "-t", "all", f"--name={name}", "-o", _QUEUE_FORMAT]


def sacct_by_name(name: str, *, since: float) -> list[str]:
    """The jobs of that name that were submitted since (seconds since the epoch); held ones are not listed."""
    start = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return ["sacct", "-X", "-P", "-n", "-S", start, f"--name={name}", "-o", _ACCOUNTING_FIELDS]


def sacct_by_ids(job_ids: Sequence[int]) -> list[list[str]]:
    """As many commands as it takes to ask for all these jobs."""
    chunks = [job_ids[begin : begin + _CHUNK] for begin in range(0, len(job_ids), _CHUNK)]
    return [["sacct", "-X", "-P", "-n", "-j", ",".join(map(str, ids)), "-o", _ACCOUNTING_FIELDS] for ids in chunks]


def parse_job_id(printed: str) -> int | None:
    """The id that `sbatch --parsable` prints (`ID` or `ID;CLUSTER`), whatever else a site's plugins print around it."""
    found = _JOB_ID.findall(printed)
    return int(found[-1][0]) if found else None


def parse_queue(printed: str) -> list[QueueRow]:
    """The rows of squeue; one that does not look like a row is left out."""
    rows = []
    for line in printed.splitlines():
        cells = line.split("|", 7)
        if len(cells) == 8 and cells[0].isdigit():
            job_id, state, submitted, started, ended, nodes, reason, name = cells
            rows.append(
                QueueRow(
                    job_id=int(job_id),
                    name=name,
                    state=first_word(state),
                    reason=reason.strip("()"),
                    nodes="" if nodes == "(null)" else nodes,
                    submitted=_seconds(submitted),
                    started=_seconds(started),
                    ended=_seconds(ended),
                )
            )
    return rows


def parse_accounting(printed: str) -> list[Accounting]:
    """The rows of sacct; one that does not look like a row is left out."""
    rows = []
    for line in printed.splitlines():
        cells = line.split("|", 10)
        if len(cells) == 11 and cells[0].isdigit():
            job_id, state, exit_code, derived, submitted, started, ended, nodes, tres, reason, name = cells
            gpus = _GPUS.search(tres)
            rows.append(
                Accounting(
                    job_id=int(job_id),
                    name=name,
                    state=first_word(state),
                    exit_code=exit_code or "0:0",
                    derived_exit_code=derived or "0:0",
                    submitted=_seconds(submitted),
                    started=_seconds(started),
                    ended=_seconds(ended),
                    nodes="" if nodes == "None assigned" else nodes,
                    num_gpus=int(gpus[1]) if gpus else 0,
                    reason=reason,
                )
            )
    return rows


def _seconds(stamp: str) -> float | None:
    try:
        return datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
