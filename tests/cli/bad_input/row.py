"""A row of the table: what is typed where, and what the refusal must say."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

HERE = "<project>"
"""Stands for the project's directory in arguments, files, variables and messages."""


@dataclass(frozen=True, kw_only=True)
class BadInput:
    """`argv` typed in a project with these files under these variables; `says` are parts of the message.

    `store`: whether the project has artifacts, those of `publish_artifacts`. `shows`: whether something is printed all
    the same, as by `--dry-run`.
    """

    name: str
    argv: tuple[str, ...]
    says: tuple[str, ...]
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    store: bool = False
    shows: bool = False

    def __str__(self) -> str:
        return self.name


def bad(
    name: str,
    command: str,
    *says: str,
    files: Mapping[str, str | bytes] | None = None,
    env: Mapping[str, str] | None = None,
    store: bool = False,
    shows: bool = False,
) -> BadInput:
    """A row; `command` as a shell takes it, without `nemotron`."""
    return BadInput(
        name=name,
        argv=tuple(shlex.split(command)),
        says=says,
        files=files or {},
        env=env or {},
        store=store,
        shows=shows,
    )


def config(name: str, text: str | bytes, command: str, *says: str) -> BadInput:
    """A row about the config `mine.yaml`."""
    return bad(name, command, *says, files={"mine.yaml": text})


def profile(name: str, table: str, *says: str, command: str = "nano3 data prep pretrain -c tiny --run lab") -> BadInput:
    """A row about the profile `lab`, of which these are the lines."""
    return bad(name, command, *says, files={"env.toml": f"[lab]\n{table}\n"})


def slurm(name: str, lines: str, *says: str) -> BadInput:
    """A row about these lines of a profile for Slurm."""
    return profile(name, f'executor = "slurm"\n{lines}', *says)


def recipe(lines: str, *, launch: str = "direct") -> str:
    """A script of the user's own with these lines in its `[tool.runspec]`."""
    table = "\n".join(f"# {line}" for line in ["[tool.runspec]", *lines.splitlines()])
    return f'# /// script\n{table}\n# [tool.runspec.run]\n# launch = "{launch}"\n# ///\nprint("hello")\n'


def run_record(run_id: str, **more: object) -> str:
    """The file of a run of one stage."""
    record = {"run_id": run_id, "recipe": "nano3/data/prep/pretrain", "config": "tiny", "stages": [], "overrides": []}
    return json.dumps({**record, "profile": None, "refresh": False, "directory": HERE, **more})
