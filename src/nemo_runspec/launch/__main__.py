"""`python -m nemo_runspec.launch {direct|torchrun|ray} [--nproc-per-node M] -- PYTHON SCRIPT…`, once on each node.

srun starts it, on the node itself or in a container there; it needs neither Slurm's commands nor DNS, and no package
but the launcher that it is asked for. It ends as the script does: with its exit code, 143 after SIGTERM, 2 when it was
started wrongly, 69 when the nodes did not come together or one of them was lost.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from nemo_runspec.errors import ConfigError, RunspecError
from nemo_runspec.launch.allocation import LaunchError, parse_allocation
from nemo_runspec.launch.elastic import build_torchrun_command, find_head, gloo_environment
from nemo_runspec.launch.ray_job import run_ray_node

REFUSED = 2
UNAVAILABLE = 69  # sysexits.h: EX_UNAVAILABLE
INTERRUPTED = 128 + signal.SIGINT


def main(argv: Sequence[str]) -> int:
    """Launch; returns the exit code where this process was not replaced by the command."""
    parser = argparse.ArgumentParser(prog="python -m nemo_runspec.launch", allow_abbrev=False)
    parser.add_argument("launcher", choices=["direct", "torchrun", "ray"])
    parser.add_argument("--nproc-per-node", type=int, default=1, metavar="M", help="processes a node; torchrun only")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="after --: the interpreter, the script, …")
    args = parser.parse_args(argv)
    try:
        return _launch(args.launcher, args.command, nproc=args.nproc_per_node)
    except RunspecError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return UNAVAILABLE if isinstance(error, LaunchError) else REFUSED
    except OSError as error:
        sys.stderr.write(f"error: node {os.environ.get('SLURM_NODEID', '0')}: {error}\n")
        return UNAVAILABLE
    except KeyboardInterrupt:
        return INTERRUPTED


def _launch(launcher: str, command: list[str], *, nproc: int) -> int:
    if nproc < 1:
        raise ConfigError(f"--nproc-per-node {nproc}; expected 1 or more")
    if launcher == "direct":
        return _become(command)
    allocation = parse_allocation(os.environ)
    if launcher == "ray":
        signal.signal(signal.SIGTERM, _exit_on_signal)
        return run_ray_node(allocation, command, environ=os.environ)
    if allocation.num_nodes * nproc == 1:
        return _become(command)
    if len(command) < 2:
        raise ConfigError(f"torchrun: {command[0]!r} is not followed by a script")
    head = find_head(allocation, os.environ)
    os.environ.update(gloo_environment(allocation, head, os.environ))
    return _become(build_torchrun_command(allocation, command, head, nproc=nproc))


def _become(command: list[str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise ConfigError(f"cannot start {command[0]!r}: {error.strerror}") from error


def _exit_on_signal(signum: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    signal.signal(signum, signal.SIG_IGN)  # a second one must not cut the ending of the children short
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
