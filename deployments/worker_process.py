"""`python -m nemotron.deployments.worker_process FOLDER --name N --pool P [--limit L]`: keeps a worker alive."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nemo_runspec.errors import RunspecError
from nemotron.deployments.background import log_to_stderr, owned
from nemotron.deployments.supervisor import supervise
from nemotron.deployments.worker import WorkerOptions, worker_program

REFUSED = 2


def main(argv: list[str]) -> int:
    """Keep it alive until SIGTERM; 2 where that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m nemotron.deployments.worker_process")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--limit", type=int)
    args = parser.parse_args(argv)
    log_to_stderr()
    try:
        run_worker(args.folder, WorkerOptions(name=args.name, pool=args.pool, limit=args.limit))
    except RunspecError as error:
        sys.stderr.write(f"error: {error}\n")
        return REFUSED
    return 0


def run_worker(folder: Path, options: WorkerOptions, *, to_files: bool = True) -> None:
    """Keep the worker alive until SIGTERM; the flows that it has started go on without it.

    Raises:
        RequirementError: a worker of that name runs already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with owned(folder):
        supervise(folder, [worker_program(folder, options)], to_files=to_files)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
