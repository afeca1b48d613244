"""Global options of a command, wherever on the line they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nemo_runspec.errors import ConfigError

_VALUES = {"-c": "config", "--config": "config", "-r": "run", "--run": "run", "-b": "batch", "--batch": "batch"}
_SWITCHES = {"-d": "dry_run", "--dry-run": "dry_run", "--stage": "stage", "--force-squash": "force_squash"}


@dataclass(kw_only=True)
class GlobalContext:
    """What the user chose: config, where to run, overrides."""

    config: str | None = None
    run: str | None = None
    batch: str | None = None
    dry_run: bool = False
    stage: bool = False
    force_squash: bool = False
    dotlist: list[str] = field(default_factory=list)
    passthrough: list[str] = field(default_factory=list)

    @property
    def mode(self) -> str:
        """`run` (attached), `batch` (detached) or `local`."""
        return "run" if self.run else "batch" if self.batch else "local"

    @property
    def profile(self) -> str | None:
        """The profile's name, if any."""
        return self.run or self.batch


def split_unknown_args(
    args: Sequence[str], ctx: GlobalContext | None = None
) -> tuple[list[str], list[str], GlobalContext]:
    """Sort late arguments into (dotlist, passthrough, context with late global options).

    Raises:
        ConfigError: an option that needs a value stands last or before another option.
    """
    found: dict[str, Any] = {}
    dotlist: list[str] = []
    passthrough: list[str] = []
    rest = list(args)
    while rest:
        arg = rest.pop(0)
        if arg == "--":
            passthrough += rest
            break
        name, value = _split_option(arg)
        if name in _SWITCHES and value is None:
            found[_SWITCHES[name]] = True
        elif name in _VALUES:
            if value is None and (not rest or rest[0].startswith("-")):
                raise ConfigError(f"option {arg}: needs a value, as in {arg} NAME")
            found[_VALUES[name]] = rest.pop(0) if value is None else value
        elif "=" in arg and not arg.startswith("-"):
            dotlist.append(arg)
        else:
            passthrough.append(arg)
    return dotlist, passthrough, replace(ctx or GlobalContext(), **found)


def _split_option(arg: str) -> tuple[str, str | None]:
    if arg.startswith("--"):
        name, equals, value = arg.partition("=")
        return name, value if equals else None
    if arg.startswith("-") and len(arg) > 2:
        return arg[:2], arg[2:].removeprefix("=")
    return arg, None
