"""Many pipeline runs at once on one team server: whether anything is lost, how busy the server is, what it takes.

    PYTHONPATH=tests python benchmarks/many_runs.py [--runs 50]

One server with PostgreSQL, one worker, a Slurm cluster of its own, all on this machine. Each run has a process of its
own and four stages, each a Slurm job. The first jobs of all runs wait for one another, so that all runs are watched at
once; the others last 20 s. One run in ten is told to fail in its last job. Then the server, Slurm and the artifact
store are asked what they know: each state, job and artifact that is missing, wrong or there twice is counted, and with
one of these the exit code is 1.

Meanwhile the server is asked once a second what the UI's page of runs asks. A stage's end is when its job left its
record; the delay runs from there to the end that the server has for the task. Needs root, what `./test` installs, and
12 GB of memory for 50 runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles

import psutil
from cluster.cluster import Cluster
from flow_runs import make_deployment, start, task_runs
from four_stages import STAGES
from rich.console import Console
from rich.table import Table
from small_recipe import write_recipe
from team_server import TeamServer, nemotron, open_folder, team_server, wait_until

from nemo_runspec.artifacts import ArtifactStore
from nemotron.deployments.backup import existing_secrets, run_tool
from nemotron.deployments.database import find_database

HERE = Path(__file__).resolve().parent
PROFILE = '[lab]\nexecutor = "slurm"\nmem = "100M"\ngpus_per_node = 0\ntime = "01:00:00"\n'
BODY = """import time
    while not Path(config["text"]).exists():
        time.sleep(0.5)
    time.sleep(config["seconds"])
    if config["fails"]:
        raise DataError("told to fail")"""
CONFIG = "text: {go_on}\nof_run: ''\nseconds: 20\nfails: false\ncheckpoint: {{save_interval: 1}}\n"
FLOW_LIMIT_S = 3600.0
SAMPLE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class PipelineRun:
    """What was asked for; `id` is the flow run's and the pipeline's."""

    id: str
    is_failure: bool

    def states(self) -> list[str]:
        """How its stages are to end."""
        return ["Completed"] * (len(STAGES) - 1) + ["Failed" if self.is_failure else "Completed"]


@dataclass(kw_only=True)
class Samples:
    """What was seen while the runs went on; seconds and bytes."""

    answers: list[float] = field(default_factory=list)
    refused: int = 0
    most_jobs: int = 0
    most: dict[str, int] = field(default_factory=dict)

    def note_memory(self, kind: str, processes: list[psutil.Process]) -> None:
        """Their own memory and a fair part of what they share, if it is the most so far."""
        self.most[kind] = max(self.most.get(kind, 0), sum(map(proportional_size, processes)))


def proportional_size(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def write_project(folder: Path) -> Path:
    """A recipe of four scripts; their jobs wait for the file that is returned."""
    go_on = folder / "go-on"
    (folder / "env.toml").write_text(PROFILE)
    for number, name in enumerate(STAGES):
        made = write_recipe(folder / "made", body=BODY, inputs='data = "SplitJsonlDataArtifact"' if number else "")
        script = folder / name / "data_prep.py"
        (script.parent / "config").mkdir(parents=True)
        script.write_text(made.script.read_text().replace("small", name).replace('sources = ["sources"]\n# ', ""))
        (script.parent / "config" / "default.yaml").write_text(CONFIG.format(go_on=go_on))
    return go_on


def deploy(team: TeamServer) -> str:
    """The id of the deployment of four_stages.py."""
    env = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "60", "PREFECT_CLIENT_MAX_RETRIES": "8"}  # as deployments/prefect.yaml
    return make_deployment(team, "four-stages", entrypoint="four_stages.py:four_stages", directory=HERE, **env)


def start_runs(team: TeamServer, project: Path, num_runs: int) -> list[PipelineRun]:
    """Ask for all of them at once."""
    deployment = deploy(team)
    runs = []
    for number in range(num_runs):
        is_failure = number % 10 == 9
        overrides = {stage: [f"of_run={number}"] for stage in STAGES}
        overrides[STAGES[0]].append("seconds=0")
        overrides[STAGES[-1]].append(f"fails={str(is_failure).lower()}")
        parameters = {"name": f"load-{number}", "project_dir": str(project), "overrides": overrides}
        runs.append(PipelineRun(id=start(team, deployment, parameters), is_failure=is_failure))
    return runs


@contextmanager
def sampled(team: TeamServer, cluster: Cluster) -> Iterator[Samples]:
    """Look at server, jobs and processes as long as the block lasts."""
    samples, ended = Samples(), threading.Event()

    def ask() -> None:
        while not ended.wait(1.0):
            begun = time.perf_counter()
            try:
                team.ask("flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 200})
                samples.answers.append(time.perf_counter() - begun)
            except OSError:
                samples.refused += 1

    def look() -> None:
        while not ended.wait(SAMPLE_S):
            with suppress(psutil.Error, subprocess.SubprocessError):  # what has just ended, or is too busy to answer
                look_once()

    def look_once() -> None:
        samples.most_jobs = max(samples.most_jobs, len(cluster.ask("squeue", "-h", "-t", "R", "-o", "%A").split()))
        server = psutil.Process(team.pid("server"))
        postgres = psutil.Process(team.pid("postgres"))
        samples.note_memory("Prefect's server", [server])
        samples.note_memory("PostgreSQL", [postgres, *postgres.children(recursive=True)])
        samples.note_memory("all flow runs", [it for it in psutil.process_iter() if is_flow(it)])

    threads = [threading.Thread(target=target, daemon=True) for target in (ask, look)]
    for thread in threads:
        thread.start()
    try:
        yield samples
    finally:
        ended.set()
        for thread in threads:
            thread.join(60)


def is_flow(process: psutil.Process) -> bool:
    try:
        return "prefect.engine" in process.cmdline()
    except psutil.Error:
        return False


def states(team: TeamServer, runs: list[PipelineRun]) -> dict[str, str]:
    """What the server says of each run."""
    wanted = {"flow_runs": {"id": {"any_": [run.id for run in runs]}}, "limit": 200}
    return {found["id"]: found["state_type"] for found in team.ask("flow_runs/filter", wanted)}


def count_wrong(team: TeamServer, cluster: Cluster, project: Path, runs: list[PipelineRun], table: Table) -> int:
    """Add what each part knows of the runs, beside what it should; how much of it is wrong."""
    with suppress(AssertionError):  # a task's end is told as an event, after that of its run
        wait_until(lambda: all(row["end_time"] for run in runs for row in task_runs(team, run.id)))
    known = states(team, runs)
    wrong_runs = sum(known[run.id] != ("FAILED" if run.is_failure else "COMPLETED") for run in runs)
    table.add_row("runs, of them in a wrong state", f"{len(runs)}, {wrong_runs}", "0 wrong")
    rows = {run.id: task_runs(team, run.id) for run in runs}
    wrong_tasks = sum([row["state_name"] for row in rows[run.id]] != run.states() for run in runs)
    table.add_row("tasks, runs that have a wrong one", f"{sum(map(len, rows.values()))}, {wrong_tasks}", "0 wrong")
    found = [line.split() for line in cluster.jobs(name="-")]
    jobs = Counter((name[: len(runs[0].id)], state) for _, state, name in found)
    wanted = Counter((run.id, state.upper()) for run in runs for state in run.states())
    wrong_jobs = (wanted - jobs).total() + (jobs - wanted).total()
    told = ", ".join(f"{number} {state}" for state, number in Counter(state for _, state, _ in found).items())
    table.add_row("jobs; too few, too many or of another end", f"{told}; {wrong_jobs}", "0")
    store = ArtifactStore(project / ".nemotron" / "artifacts")
    made = Counter(store.record(ref).producer.run_id for name in store.names() for ref in store.versions(name))
    wrong_artifacts = sum(made[run.id] != run.states().count("Completed") for run in runs)
    table.add_row("artifacts, runs that have too few or many", f"{made.total()}, {wrong_artifacts}", "0 wrong")
    add_delays(table, "run wanted, it begins: p50, p95, max", [begin_delay(team, run) for run in runs])
    ends = [seconds(row["end_time"]) for run in runs for row in rows[run.id]]
    left = [left_record(project, run) for run in runs]
    delays = [end - job for end, job in zip(ends, [job for jobs in left for job in jobs], strict=True)]
    add_delays(table, "a job ends, the server knows: p50, p95, max", delays)
    return wrong_runs + wrong_tasks + wrong_jobs + wrong_artifacts


def begin_delay(team: TeamServer, run: PipelineRun) -> float:
    """Seconds from when the run was asked for to when its flow began."""
    found = team.ask(f"flow_runs/{run.id}")
    return seconds(found["start_time"]) - seconds(found["expected_start_time"])


def left_record(project: Path, run: PipelineRun) -> list[float]:
    """When the run's jobs left their records, in order; seconds since the epoch."""
    found = (project / ".nemotron" / "ledger").glob(f"{run.id}-*/done.json")
    return sorted(path.stat().st_mtime for path in found)


def seconds(time_of_day: str) -> float:
    return datetime.fromisoformat(time_of_day).timestamp()


def add_delays(table: Table, name: str, delays: list[float]) -> None:
    """Add the row of these delays, in seconds."""
    p95 = quantiles(delays, n=20, method="inclusive")[-1]
    table.add_row(name, f"{median(delays):.2f}, {p95:.2f}, {max(delays):.2f} s", "")


def add_database(team: TeamServer, num_runs: int, table: Table) -> None:
    """Add how much of the database a run takes."""
    database = find_database(team.dir, existing_secrets(team.dir))

    def ask(query: str) -> int:
        return int(run_tool(database, "psql", database.url, "-Atc", query))

    rows = [ask(f"select count(*) from {name}") / num_runs for name in ("log", "events")]
    size = ask("select pg_database_size(current_database())") / 2**20
    table.add_row("database; lines of log and events a run", f"{size:.0f} MiB; {rows[0]:.0f}, {rows[1]:.0f}", "")


def measure(team: TeamServer, cluster: Cluster, project: Path, num_runs: int, table: Table) -> int:
    """Have the runs, and add all rows; how much is wrong."""
    go_on = write_project(project)
    worker = ("--name", "load")
    env = {**team.env, **cluster.env}
    assert nemotron("worker", "--detach", *worker, cwd=project, **env).returncode == 0
    try:
        with sampled(team, cluster) as samples:
            begun = time.monotonic()
            runs = start_runs(team, project, num_runs)
            wait_until(lambda: samples.most_jobs >= num_runs, timeout_s=FLOW_LIMIT_S)
            table.add_row("until all first jobs run", f"{time.monotonic() - begun:.0f} s", "")
            go_on.touch()
            ended = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
            wait_until(lambda: all(it in ended for it in states(team, runs).values()), timeout_s=FLOW_LIMIT_S)
            table.add_row("until all runs have ended", f"{time.monotonic() - begun:.0f} s", "")
        wrong = count_wrong(team, cluster, project, runs, table)
        table.add_row("runs watched at once", f"{samples.most_jobs}", "")
        add_delays(table, "the page of runs: p50, p95, max", samples.answers)
        table.add_row("… not answered", f"{samples.refused} of {samples.refused + len(samples.answers)}", "")
        for kind, most in samples.most.items():
            table.add_row(f"most memory of {kind}", f"{most / 2**20:.0f} MiB", "")
        add_database(team, num_runs, table)
        return wrong
    finally:
        nemotron("worker", "stop", *worker, cwd=project, **env)
        cluster.cancel_all()


def main() -> int:
    """Measure and print; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    args = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    table = Table("figure", "measured", "reach", title=f"{args.runs} runs; load before: {os.getloadavg()[0]:.1f}")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    with (
        tempfile.TemporaryDirectory() as project,
        open_folder() as server,
        Cluster.running(folder, SLURM_CPUS="100") as cluster,
        team_server(server / "server") as team,
    ):
        try:
            return int(measure(team, cluster, Path(project), args.runs, table) > 0)
        finally:
            Console(width=120).print(table)


if __name__ == "__main__":
    sys.exit(main())
