"""What watching and submitting jobs costs Slurm, and how soon an end is noticed, on a real cluster of its own.

    PYTHONPATH=tests:tests/nemo_runspec/slurm python benchmarks/slurm_watch.py [--jobs 1000] [--ends 300]

submit: `submit_once` and a bare `sbatch` of the same script with the same options, in turns, held so that none runs.

watch: one monitor watches jobs that all run, each with a shell that waits on a named pipe. As the stages of a flow do,
each job's verdict is waited for once a second. Calls are counted by programs of the same names first on PATH. Then a
part ends, spread over a minute, one in three with exit code 3. A job's end is when done.json appeared; the delays run
from there to when `Watched.state` says so, looked at 5 times a second, and to the verdict.
Needs root and what `./test` installs; the jobs take some 10 GB of memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from bare_job import CLIENT, BareJob, prepare
from cluster.cluster import Cluster, CommandCount
from rich.console import Console
from rich.table import Table

from nemo_runspec.slurm.monitor import Monitor, Watched
from nemo_runspec.slurm.states import has_ended

BODY = 'read -r code < go; exit "$code"'
DIRECTIVES = ("--mem=1", "--time=60")
SUBMITS = 50
SPREAD_S = 60.0
LOOK_S = 0.2
ASK_S = 1.0
LIMIT_S = 300.0


@dataclass(kw_only=True)
class End:
    """A job that was told to end; times in seconds since the epoch."""

    job: Watched
    is_failure: bool
    state_seen: float = 0.0
    verdict_seen: float = 0.0

    @property
    def ended(self) -> float:
        """When the job left its record."""
        return (self.job.attempt.folder / "done.json").stat().st_mtime


def stop_sampling(cluster: Cluster) -> None:
    """Let the nodes not sample what jobs use: each job would read all of /proc every 5 s, and 1,000 of them do."""
    config = cluster.folder / "etc" / "slurm.conf"
    config.write_text(config.read_text().replace("Frequency=task=5", "Frequency=task=0"))
    cluster.ask("scontrol", "reconfigure")


def prepare_job(folder: Path, name: str, *directives: str) -> BareJob:
    """A job that ends with the exit code that it reads from its named pipe."""
    job = prepare(folder / name, BODY, directives=[*DIRECTIVES, *directives])
    os.mkfifo(job.attempt.folder / "go")
    return job


def time_submits(folder: Path) -> tuple[float, float]:
    """Median milliseconds of `submit_once` and of a bare sbatch."""
    ours, bare = [], []
    for number in range(SUBMITS + 1):
        job = prepare_job(folder, f"submit{number}", "--hold")
        started = time.perf_counter()
        job.submit()
        ours.append(time.perf_counter() - started)
        command = ["sbatch", "--parsable", *job.options, "--job-name=bare", str(job.attempt.folder / "job.sh")]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        bare.append(time.perf_counter() - started)
    return 1000 * median(ours[1:]), 1000 * median(bare[1:])


def submit_all(cluster: Cluster, folder: Path, num_jobs: int) -> list[tuple[BareJob, int]]:
    """Submit the jobs and return those that run, once all do or no more come."""
    jobs = [prepare_job(folder, f"job{number}") for number in range(num_jobs)]
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(BareJob.submit, jobs))
    deadline = time.monotonic() + LIMIT_S
    running: set[str] = set()
    while len(running) < num_jobs and time.monotonic() < deadline:
        time.sleep(2)
        running = set(cluster.ask("squeue", "-h", "-t", "RUNNING", "-o", "%A").split())
    return [(job, job_id) for job, job_id in zip(jobs, ids, strict=True) if str(job_id) in running]


def look(monitor: Monitor, jobs: list[Watched], ends: list[End], *, until: float) -> None:
    """Look at the jobs until that time (monotonic) as the stages of a flow do, and note what is seen of ends."""
    asked = 0.0
    while (now := time.monotonic()) < until:
        if now - asked >= ASK_S:
            asked = now
            for job in jobs:
                monitor.wait(job, timeout_s=0)
        for end in ends:
            seen = time.time()
            if not end.state_seen and (has_ended(end.job.state) or end.job.verdict):
                end.state_seen = seen
            if not end.verdict_seen and end.job.verdict:
                end.verdict_seen = seen
        time.sleep(LOOK_S)


def end_some(monitor: Monitor, jobs: list[Watched], num_ends: int) -> list[End]:
    """Let jobs end, spread over a minute, and return when all have a verdict."""
    ends: list[End] = []
    begun = time.monotonic()
    for number, job in enumerate(jobs[:num_ends]):
        look(monitor, jobs, ends, until=begun + number * SPREAD_S / num_ends)
        end = End(job=job, is_failure=number % 3 == 2)
        (job.attempt.folder / "go").write_text("3\n" if end.is_failure else "0\n")
        ends.append(end)
    deadline = time.monotonic() + LIMIT_S
    while not all(end.verdict_seen for end in ends) and time.monotonic() < deadline:
        look(monitor, jobs, ends, until=time.monotonic() + ASK_S)
    return ends


def count_calls(counts: CommandCount, *, begin: float, end: float) -> str:
    """Calls a minute between these times, in all and of each program, and the most in any 60 s."""
    calls = [(when, name) for when, name in counts.calls() if begin <= when < end]
    minutes = (end - begin) / 60
    each = ", ".join(f"{name} {number / minutes:.1f}" for name, number in sorted(Counter(n for _, n in calls).items()))
    most = max((sum(first <= when < first + 60 for when, _ in calls) for first, _ in calls), default=0)
    return f"{len(calls) / minutes:.1f} ({each}) in {end - begin:.0f} s; at most {most}"


def add_delays(table: Table, name: str, delays: list[float], reach: str = "") -> None:
    """Add the row of these delays, in seconds."""
    p95 = quantiles(delays, n=20, method="inclusive")[-1]
    table.add_row(name, f"{median(delays):.1f}, {p95:.1f}, {max(delays):.1f} s", reach)


def add_watch(cluster: Cluster, folder: Path, table: Table, args: argparse.Namespace) -> None:
    """Submit, watch, let a part end, and add the rows."""
    begun = time.monotonic()
    running = submit_all(cluster, folder, args.jobs)
    table.add_row("jobs that run at once", f"{len(running)} of {args.jobs}, after {time.monotonic() - begun:.0f} s", "")
    counts = cluster.wrappers(folder / "bin")
    os.environ["PATH"] = f"{counts.folder}:{os.environ['PATH']}"
    monitor = Monitor(client=CLIENT)
    jobs = [monitor.watch(job.attempt, job_id, num_gpus=0) for job, job_id in running]
    started, used = time.time(), time.process_time()
    look(monitor, jobs, [], until=time.monotonic() + args.watch_s)
    told, used = time.time(), time.process_time() - used
    table.add_row("Slurm commands a minute, all run", count_calls(counts, begin=started, end=told), "≤ 4")
    table.add_row("CPU of the watching process", f"{100 * used / (told - started):.1f} %", "")
    ends = end_some(monitor, jobs, args.ends)
    calls = count_calls(counts, begin=told, end=time.time())
    table.add_row("Slurm commands a minute, some end", calls, "")
    judged = [end for end in ends if end.verdict_seen]
    table.add_row("ends, judged, wrongly", f"{len(ends)}, {len(judged)}, {sum(map(is_wrong, judged))}", "all, 0")
    add_delays(table, "end to state: p50, p95, max", [end.state_seen - end.ended for end in judged], "p95 ≤ 30 s")
    for name, is_failure in (("exit code 0", False), ("exit code 3", True)):
        delays = [end.verdict_seen - end.ended for end in judged if end.is_failure is is_failure]
        add_delays(table, f"end to verdict, {name}: p50, p95, max", delays)


def is_wrong(end: End) -> bool:
    """Whether the verdict is not what the job was told to do."""
    assert end.job.verdict is not None
    return end.job.verdict.ending != ("FAILED" if end.is_failure else "COMPLETED")


def end_all(cluster: Cluster) -> None:
    """End all jobs, so that stopping the cluster has little to do."""
    cluster.ask("scancel", "--user=root")
    deadline = time.monotonic() + LIMIT_S
    while cluster.ask("squeue", "-h", "-o", "%A") and time.monotonic() < deadline:
        time.sleep(1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--ends", type=int, default=300)
    parser.add_argument("--watch-s", type=float, default=180.0)
    args = parser.parse_args()
    table = Table("figure", "measured", "reach", title=f"jobs on Slurm; load before: {os.getloadavg()[0]:.1f}")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    with tempfile.TemporaryDirectory() as work, Cluster.running(folder, SLURM_CPUS="300") as cluster:
        os.environ.update(cluster.env)
        stop_sampling(cluster)
        ours, bare = time_submits(Path(work))
        table.add_row("submit_once, bare sbatch: median", f"{ours:.0f}, {bare:.0f} ms", "")
        table.add_row("submit_once adds", f"{ours - bare:.0f} ms", "≤ 150 ms")
        end_all(cluster)
        try:
            add_watch(cluster, Path(work), table, args)
        finally:
            end_all(cluster)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
