"""What the command line says besides the recipe's name: options, overrides, and what goes to the script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nemo_runspec.errors import ConfigError

Mode = Literal["local", "run", "batch"]

_VALUES = {"-c": "config", "--config": "config", "-r": "run", "--run": "run", "-b": "batch", "--batch": "batch"}
_FLAGS = {"-d": "dry_run", "--dry-run": "dry_run", "--stage": "stage", "--force-squash": "force_squash"}


@dataclass(kw_only=True)
class GlobalContext:
    """Options common to all recipe commands; `run` and `batch` name a profile."""

    config: str | None = None
    run: str | None = None
    batch: str | None = None
    dry_run: bool = False
    stage: bool = False
    force_squash: bool = False
    dotlist: list[str] = field(default_factory=list)
    passthrough: list[str] = field(default_factory=list)

    @property
    def mode(self) -> Mode:
        """`run` is attached, `batch` detached, `local` without a profile."""
        if self.run:
            return "run"
        return "batch" if self.batch else "local"

    @property
    def profile(self) -> str | None:
        """The profile's name, if one is given."""
        return self.run or self.batch


def split_unknown_args(
    args: Sequence[str], ctx: GlobalContext | None = None
) -> tuple[list[str], list[str], GlobalContext]:
    """Sort what the parser left into overrides, arguments of the script, and global options given late.

    `-r X`, `--run X`, `--run=X` and `-rX` are the same; what follows `--` goes to the script as it is. Returns the
    overrides, the script's arguments, and a copy of `ctx` that holds all of it.

    Raises:
        ValueError: an option that needs a value stands last or before another option.
    """
    dotlist: list[str] = []
    passthrough: list[str] = []
    options: dict[str, Any] = {}
    rest = list(args)
    while rest:
        arg = rest.pop(0)
        if arg == "--":
            passthrough += rest
            break
        if arg in _FLAGS:
            options[_FLAGS[arg]] = True
        elif (name := _value_option(arg)) is not None:
            options[_VALUES[name]] = _value(arg, name, rest)
        elif "=" in arg and not arg.startswith("-"):
            dotlist.append(arg)
        else:
            passthrough.append(arg)
    before = ctx or GlobalContext()
    after = replace(
        before,
        dotlist=[*before.dotlist, *dotlist],
        passthrough=[*before.passthrough, *passthrough],
        **options,
    )
    return dotlist, passthrough, after


def _value_option(arg: str) -> str | None:
    """The option that `arg` spells, if it is one that takes a value."""
    name = arg.partition("=")[0] if arg.startswith("--") else arg[:2]
    return name if name in _VALUES else None


def _value(arg: str, name: str, rest: list[str]) -> str:
    if arg != name:
        return arg[len(name) :].removeprefix("=")
    if not rest or rest[0].startswith("-"):
        raise ConfigError(f"option {arg}: needs a value, as in {arg} NAME")
    return rest.pop(0)
