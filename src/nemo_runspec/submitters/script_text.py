"""How words stand in a batch script, and which lines of a rendered one go. Pure; needs the standard library only."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from nemo_runspec.slurm.spec import JOB_DIR, JobSpec

CONTAINER_JOB_DIR = "/nemo_run"
"""Where NeMo-Run mounts an attempt's directory in a container."""

WORD_FIELDS = ("account", "partition", "qos", "constraint", "reservation", "nodelist", "exclude")
"""Fields of a JobSpec that are options of sbatch by the same name."""

_DROPPED = ("job-name", "output", "error", "open-mode", "comment", "requeue", "no-requeue", "signal", "wckey")
_DROPPED_LINE = re.compile(rf"#SBATCH --({'|'.join(_DROPPED)})(=.*)?")
_BREAKS = re.compile(r"[\x01-\x1f\x7f\x85\u2028\u2029]")


def quote(word: str) -> str:
    """The word as bash reads it back: on one line, so that no part of it can look like a line of the script."""
    if not _BREAKS.search(word):
        return shlex.quote(word)
    escaped = _BREAKS.sub(_escape, word.replace("\\", "\\\\").replace("'", "\\'"))
    return f"$'{escaped}'"


def join(words: Iterable[str]) -> str:
    """The words as one shell command."""
    return " ".join(quote(word) for word in words)


def drop_directives(script: str) -> str:
    """The script without the directives that the client gives for each attempt itself."""
    lines = script.split("\n")
    end = next((i for i, line in enumerate(lines) if line and not line.startswith("#")), len(lines))
    return "\n".join([*(line for line in lines[:end] if not _DROPPED_LINE.fullmatch(line)), *lines[end:]])


def tasks_per_node(spec: JobSpec) -> int:
    """One where the launcher starts the processes of a node itself."""
    return spec.ntasks_per_node if spec.launcher == "direct" else 1


def container_mounts(spec: JobSpec) -> list[str]:
    """What a container sees: the mounts asked for, and the attempt's directory under its own name."""
    return [*spec.mounts, f"{JOB_DIR}:{JOB_DIR}"]


def _escape(match: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in match[0].encode())
