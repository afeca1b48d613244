"""What the tiny chain costs: time cold and reused, memory of each process, time that the orchestration adds to a stage.

    python benchmarks/chain.py [--only chain|overhead]

chain: runs `python flows/nano3.py` twice in a new directory. Memory is resident set size, sampled 5 times a second, of
every process of the tree; MB are 10^6 bytes, and pages that Ray's processes share count in each. What the flow adds
before a stage is the time from when the script before it was last seen to when its own was first seen, so up to 0.4 s
too much: collecting the one, Prefect, verifying and planning the other. Before the first stage it is the start-up.

overhead: what `run_stage` alone, without Prefect, adds to its script; see stage_overhead.py.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table
from stage_overhead import add_overhead

from nemotron.flows.nano3_stages import RECIPE_DIR

FLOW = RECIPE_DIR.parent.parent / "flows" / "nano3.py"
SAMPLE_S = 0.2


class Watch:
    """Peak memory (MB) by kind of process, and when each stage's script was first and last seen (s)."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.peak_mb: dict[str, float] = {}
        self.scripts: dict[str, tuple[float, float]] = {}
        self._root = psutil.Process(process.pid)
        self._thread = threading.Thread(target=self._run, args=(process,))
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the watched process."""
        self._thread.join()

    def _run(self, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            for each in [self._root, *self._root.children(recursive=True)]:
                try:
                    self._note(each)
                except (psutil.NoSuchProcess, psutil.ZombieProcess):
                    continue
            time.sleep(SAMPLE_S)

    def _note(self, each: psutil.Process) -> None:
        line = " ".join(each.cmdline())
        if not line:  # it has ended
            return
        kind, now = name_process(line), time.perf_counter()
        self.peak_mb[kind] = max(self.peak_mb.get(kind, 0.0), each.memory_info().rss / 1e6)
        if stage := re.fullmatch(r"script of (.+)", kind):
            first, _ = self.scripts.get(stage[1], (now, now))
            self.scripts[stage[1]] = (first, now)


def name_process(command: str) -> str:
    """A short name for the process that runs the command."""
    for pattern, name in (
        (r"jobs/\d+-\d+-(\S+)/train\.yaml$", "script of {}"),
        (r"(ray::\w+)", "{}"),
        (r"(nano3\.py|uvicorn|raylet|gcs_server)", "{}"),
        (r"(?:^|/)(ray|python)\b", "other {}"),
    ):
        if found := re.search(pattern, command):
            return name.format(found[1])
    return "other"


def run_flow(folder: Path) -> tuple[float, float, Watch]:
    """When one run of the flow started and ended (s), and its watch."""
    started = time.perf_counter()
    with (folder / "flow.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, str(FLOW)], cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    watch = Watch(process)
    watch.join()
    if process.returncode:
        raise SystemExit((folder / "flow.log").read_text(encoding="utf-8"))
    return started, time.perf_counter(), watch


def add_chain(folder: Path, table: Table) -> None:
    """Add the rows of a cold run and of one that reuses all."""
    started, ended, watch = run_flow(folder)
    reuse_started, reuse_ended, _ = run_flow(folder)
    table.add_row("cold", f"{ended - started:.0f} s", "≤ 360 s")
    table.add_row("reuse", f"{reuse_ended - reuse_started:.1f} s", "≤ 20 s")
    for kind, peak_mb in sorted(watch.peak_mb.items(), key=lambda item: -item[1]):
        table.add_row(f"memory, {kind}", f"{peak_mb:,.0f} MB", "≤ 2500 MB")
    before, reach = started, ""
    for stage, (first, last) in watch.scripts.items():
        table.add_row(f"flow, before {stage}", f"{first - before:.2f} s", reach)
        before, reach = last, "≤ 2 s"
    table.add_row("flow, after the last", f"{ended - before:.2f} s", "")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("chain", "overhead"))
    args = parser.parse_args()
    os.environ.pop("NEMOTRON_STORE", None)  # with a store of the user's the first run would not be cold
    table = Table("figure", "measured", "reach", title=f"tiny chain; load before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        if args.only != "overhead":
            add_chain(Path(name), table)
        if args.only != "chain":
            add_overhead(Path(name), table)
    Console().print(table)


if __name__ == "__main__":
    main()
