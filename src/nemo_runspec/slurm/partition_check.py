"""Whether a partition can run what a profile asks of it: it is there and up, its time limit and its nodes suffice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nemo_runspec.checks import Check, failed, passed
from nemo_runspec.errors import SlurmUnreachable, did_you_mean
from nemo_runspec.slurm.hosts import Host
from nemo_runspec.slurm.spec import JobSpec

QUERY_TIMEOUT_S = 60.0
# sinfo(1), compact node states; a suffix as * (not responding) or $ (reserved) makes it another word.
_UP = frozenset({"idle", "mix", "alloc", "comp", "idle~", "idle#", "mix#", "alloc#", "mix-", "plnd", "resv"})


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A partition as scontrol shows it; limits are None where there is none."""

    name: str
    state: str
    is_default: bool
    time_limit_s: int | None
    max_nodes: int | None
    num_nodes: int


def check_partitions(host: Host, specs: Sequence[JobSpec]) -> list[Check]:
    """A check for each spec's partition; SlurmUnreachable if Slurm does not answer."""
    partitions = parse_partitions(ask_slurm(host, ["scontrol", "--all", "--oneliner", "show", "partition"]))
    nodes_up = count_nodes_up(ask_slurm(host, ["sinfo", "--all", "-h", "-N", "-o", "%P|%t|%N"]))
    return [_check_spec(spec, partitions, nodes_up) for spec in specs]


def judge(spec: JobSpec, partition: Partition, nodes_up: int) -> list[str]:
    """What speaks against that spec in that partition."""
    problems = []
    if partition.state != "UP":
        problems.append(f"it is {partition.state}")
    asked_s = time_limit_s(spec.time_limit) if spec.time_limit else None
    if asked_s is not None and partition.time_limit_s is not None and asked_s > partition.time_limit_s:
        problems.append(f"time = {spec.time_limit} is beyond its limit of {show_time(partition.time_limit_s)}")
    if spec.nodes > partition.num_nodes:
        problems.append(f"nodes = {spec.nodes}, it has {partition.num_nodes}")
    elif partition.max_nodes is not None and spec.nodes > partition.max_nodes:
        problems.append(f"nodes = {spec.nodes}, it gives a job at most {partition.max_nodes}")
    elif spec.nodes > nodes_up:
        problems.append(f"nodes = {spec.nodes}, of its {partition.num_nodes} nodes {nodes_up} are up")
    return problems


def parse_partitions(text: str) -> dict[str, Partition]:
    """The partitions that `scontrol --oneliner show partition` lists, by name."""
    rows = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in text.splitlines() if line.startswith("PartitionName=")]
    return {
        row["PartitionName"]: Partition(
            name=row["PartitionName"],
            state=row.get("State", "UNKNOWN"),
            is_default=row.get("Default") == "YES",
            time_limit_s=time_limit_s(row.get("MaxTime", "UNLIMITED")),
            max_nodes=int(row["MaxNodes"]) if row.get("MaxNodes", "").isdecimal() else None,
            num_nodes=int(row.get("TotalNodes") or 0),
        )
        for row in rows
    }


def count_nodes_up(text: str) -> dict[str, int]:
    """How many nodes of each partition can run jobs, now or later, from sinfo's `partition|state|node` lines."""
    nodes: dict[str, set[str]] = {}
    for line in text.splitlines():
        partition, state, node = line.split("|")
        if state in _UP:
            nodes.setdefault(partition.removesuffix("*"), set()).add(node)
    return {partition: len(names) for partition, names in nodes.items()}


def time_limit_s(text: str) -> int | None:
    """Seconds of a time limit in any of Slurm's forms, None for no limit.

    >>> time_limit_s("1-12"), time_limit_s("90"), time_limit_s("04:00:00"), time_limit_s("UNLIMITED")
    (129600, 5400, 14400, None)
    """
    if not text[:1].isdecimal():
        return None
    # sbatch(1) --time: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S
    days, has_days, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if has_days:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def show_time(seconds: int) -> str:
    """A time limit as D-HH:MM:SS, or HH:MM:SS below a day."""
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def ask_slurm(host: Host, command: Sequence[str]) -> str:
    """What the program prints; raises SlurmUnreachable if it fails."""
    done = host.run(command, timeout_s=QUERY_TIMEOUT_S)
    if done.code != 0:
        raise SlurmUnreachable(f"{command[0]}: {' '.join(done.err.split()) or f'exit code {done.code}'}")
    return done.out


def _check_spec(spec: JobSpec, partitions: dict[str, Partition], nodes_up: dict[str, int]) -> Check:
    default = [name for name, partition in partitions.items() if partition.is_default]
    names = spec.partition.split(",") if spec.partition else default
    have = ", ".join(partitions) or "none"
    if not names:
        return failed(
            "partition", "the profile names none and the cluster has no default", f"set partition; have: {have}"
        )
    for name in names:
        if name not in partitions:
            guess = did_you_mean(name, partitions)
            return failed(
                "partition", f"no partition {name!r}; have: {have}.{guess}", "correct partition in the profile"
            )
    problems = {name: judge(spec, partitions[name], nodes_up.get(name, 0)) for name in names}
    usable = [name for name in names if not problems[name]]  # of several, Slurm takes one that can run it
    if not usable:
        said = "; ".join(f"{name}: {', '.join(found)}" for name, found in problems.items())
        return failed("partition", said, f"change the profile, or choose another partition: {have}")
    return passed("partition", "; ".join(_describe(spec, partitions[name], nodes_up.get(name, 0)) for name in usable))


def _describe(spec: JobSpec, partition: Partition, nodes_up: int) -> str:
    limit = show_time(partition.time_limit_s) if partition.time_limit_s is not None else "no limit"
    asked = f"time {spec.time_limit or 'by default'} of {limit}"
    default = "" if spec.partition else " (the default)"
    return f"{partition.name}{default}: UP, {asked}, nodes {spec.nodes} of {nodes_up} up"
