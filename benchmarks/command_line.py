"""How long the `nemotron` command takes to answer, in a project of its own: median of runs in turns.

The first row is Python doing nothing, which all others contain. A dry run on Slurm includes rendering the batch script.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 21
ENV_TOML = '[lab]\nexecutor = "slurm"\naccount = "llm"\nnodes = 4\ngpus_per_node = 8\n'
NEMOTRON = str(Path(sys.executable).with_name("nemotron"))
DRY_RUN = [NEMOTRON, "nano3", "data", "prep", "pretrain", "-c", "tiny", "-d"]
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "nemotron --help": [NEMOTRON, "--help"],
    "nemotron nano3 sft --help": [NEMOTRON, "nano3", "sft", "--help"],
    "nemotron nano3 data prep pretrain -c tiny -d": DRY_RUN,
    "the same, -r lab (Slurm)": [*DRY_RUN, "-r", "lab"],
    "nemotron nano3 pipe -c tiny -d (six stages)": [NEMOTRON, "nano3", "pipe", "-c", "tiny", "-d"],
    "nemotron runs list": [NEMOTRON, "runs", "list"],
    "nemotron artifacts list": [NEMOTRON, "artifacts", "list"],
    "nemotron env list": [NEMOTRON, "env", "list"],
    "nemotron doctor": [NEMOTRON, "doctor"],
}
REACH_MS = {
    "nemotron --help": 150,
    "nemotron nano3 sft --help": 250,
    "nemotron nano3 data prep pretrain -c tiny -d": 700,
    "the same, -r lab (Slurm)": 700,
}


def main() -> None:
    """Print the table."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as project:
        (Path(project) / "env.toml").write_text(ENV_TOML)
        for _ in range(ROUNDS + 1):  # the first round warms the file cache up and does not count
            for name, command in COMMANDS.items():
                begin = time.perf_counter()
                subprocess.run(command, cwd=project, check=True, capture_output=True)
                times[name].append(1000 * (time.perf_counter() - begin))
    print("| command | median, ms | fastest | of `python -c pass` | reach |\n|---|---|---|---|---|")  # noqa: T201
    bare = statistics.median(times["python -c pass"][1:])
    for name, measured in times.items():
        median = statistics.median(measured[1:])
        reach = f"≤ {REACH_MS[name]}" if name in REACH_MS else ""
        print(f"| `{name}` | {median:.0f} | {min(measured):.0f} | {median / bare:.1f} | {reach} |")  # noqa: T201


if __name__ == "__main__":
    main()
