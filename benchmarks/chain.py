"""What the tiny chain costs: time cold and reused, memory of each process, time that the orchestration adds.

    python benchmarks/chain.py

Runs `python flows/nano3.py` twice in a new directory. Memory is resident set size, sampled 5 times a second, of every
process of the tree. What orchestration adds to a stage is the time from the end of the script before it to the start of
its own, so all that Prefect and the stage's planning, verifying and collecting take; the first stage's is the start.
"""

from __future__ import annotations

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

import nemotron.flows

FLOW = Path(nemotron.flows.__path__[0]).resolve() / "nano3.py"
SAMPLE_S = 0.2


class Watch:
    """Peak memory (MB) by kind of process, and when each stage's script started and was last seen (s since 1970)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.peak_mb: dict[str, float] = {}
        self.scripts: dict[str, tuple[float, float]] = {}
        self._root = psutil.Process(process.pid)
        self._thread = threading.Thread(target=self._run, args=(process,))
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the watched process."""
        self._thread.join()

    def _run(self, process: subprocess.Popen[str]) -> None:
        while process.poll() is None:
            for each in [self._root, *self._root.children(recursive=True)]:
                try:
                    self._note(each)
                except psutil.NoSuchProcess:
                    continue
            time.sleep(SAMPLE_S)

    def _note(self, each: psutil.Process) -> None:
        line = " ".join(each.cmdline())
        kind = name_process(line)
        self.peak_mb[kind] = max(self.peak_mb.get(kind, 0.0), each.memory_info().rss / 1e6)
        stage = re.search(r"jobs/\d+-\d+-(\S+)/train\.yaml$", line)
        if stage:
            self.scripts[stage[1]] = (each.create_time(), time.time())


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


def run(folder: Path) -> tuple[float, float, Watch]:
    """When it started (s since 1970), how long it took (s), and the watch of one run of the flow."""
    started = time.time()
    process = subprocess.Popen(
        [sys.executable, str(FLOW)], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    )
    watch = Watch(process)
    watch.join()
    assert process.wait() == 0, "the flow failed; run it by hand to see why"
    return started, time.time() - started, watch


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        started, cold_s, watch = run(Path(name))
        _, reuse_s, _ = run(Path(name))
    console = Console()
    table = Table("figure", "measured", "reach", title="tiny chain")
    table.add_row("cold", f"{cold_s:.0f} s", "≤ 360 s")
    table.add_row("reuse", f"{reuse_s:.1f} s", "≤ 20 s")
    for kind, peak_mb in sorted(watch.peak_mb.items(), key=lambda item: -item[1])[:8]:
        table.add_row(f"peak memory, {kind}", f"{peak_mb:,.0f} MB", "≤ 2,500 MB")
    before, reach = started, "(start-up)"
    for stage, (begun, ended) in watch.scripts.items():
        table.add_row(f"added before {stage}", f"{begun - before:.2f} s (± {SAMPLE_S} s)", reach)
        before, reach = ended, "≤ 2 s"
    table.add_row("added at the end", f"{started + cold_s - before:.2f} s", "")
    console.print(table)


if __name__ == "__main__":
    main()
