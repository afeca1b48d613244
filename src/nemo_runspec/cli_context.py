"""What the command line says besides the recipe's name: options, overrides, and what goes to the script."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nemo_runspec.errors import ConfigError

Mode = Literal["local", "run", "batch"]

VALUE_OPTIONS = {"-c": "config", "--config": "config", "-r": "run", "--run": "run", "-b": "batch", "--batch": "batch"}
FLAGS = {
    "-d": "dry_run",
    "--dry-run": "dry_run",
    "--stage": "stage",
    "--force-squash": "force_squash",
    "--refresh": "refresh",
}


@dataclass(kw_only=True)
class GlobalContext:
    """Options common to all recipe commands; `run` and `batch` name a profile."""

    config: str | None = None
    run: str | None = None
    batch: str | None = None
    dry_run: bool = False
    stage: bool = False
    force_squash: bool = False
    refresh: bool = False
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
    args: Sequence[str], ctx: GlobalContext | None = None, *, strict: bool = False
) -> tuple[list[str], list[str], GlobalContext]:
    """Sort what the parser left into overrides, arguments of the script, and global options given late.

    `-r X`, `--run X`, `--run=X` and `-rX` are the same; what follows `--` goes to the script as it is. Returns the
    overrides, the script's arguments, and a copy of `ctx` that holds all of it. With `strict` nothing before `--` goes
    to the script.

    >>> split_unknown_args(["train.lr=1e-4", "-rlab", "--", "--fast"])[:2]
    (['train.lr=1e-4'], ['--fast'])

    Raises:
        ValueError: an option that needs a value stands last or before another option; with `strict` also an unknown
            option or word, and an option given twice with different values.
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
        if arg in FLAGS:
            options[FLAGS[arg]] = True
        elif (name := value_option(arg)) is not None:
            _check_spelling(arg)
            value = _value(arg, name, rest)
            key = VALUE_OPTIONS[name]
            if strict and options.get(key, value) != value:
                raise ConfigError(f"option {name}: given twice, {options[key]!r} and {value!r}; keep one")
            options[key] = value
        elif "=" in arg and not arg.startswith("-"):
            dotlist.append(arg)
        elif strict:
            raise _unknown(arg, rest)
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


def value_option(arg: str) -> str | None:
    """The global option with a value that `arg` spells, without its value; None if it is none."""
    name = arg.partition("=")[0] if arg.startswith("--") else arg[:2]
    return name if name in VALUE_OPTIONS else None


def is_separate(arg: str) -> bool:
    """Whether the option's value is the next argument."""
    return arg in VALUE_OPTIONS


def _check_spelling(arg: str) -> None:
    """`-run lab` would be read as profile `un`."""
    if f"-{arg}" in VALUE_OPTIONS:
        raise ConfigError(f"option {arg}: a long option has two dashes; write -{arg} VALUE, or {arg[:2]} VALUE")


def _value(arg: str, name: str, rest: list[str]) -> str:
    attached = arg != name
    if not attached and (not rest or rest[0].startswith("-")):
        found = f", found {rest[0]!r}" if rest else ""
        raise ConfigError(f"option {arg}: needs a value{found}; give a name, as in {arg} NAME")
    value = arg[len(name) :].removeprefix("=") if attached else rest.pop(0)
    if not value.strip():
        raise ConfigError(f"option {name}: needs a value, got {value!r}; give a name, as in {name} NAME")
    if not attached and "=" in value and VALUE_OPTIONS[name] != "config":
        raise ConfigError(
            f"option {name}: needs the name of a profile, got the override {value!r}; give it as in {name} NAME {value}"
        )
    return value


def _unknown(arg: str, rest: Sequence[str]) -> ConfigError:
    name, equals, value = arg.partition("=")
    if equals and name in FLAGS:
        return ConfigError(f"option {name}: takes no value, got {value!r}; give {name} alone, or leave it out")
    if not arg.startswith("-"):
        return ConfigError(
            f"argument {arg!r}: expected key=value, as in train.train_iters=50; "
            f"what the script is to get goes after --: -- {arg}"
        )
    known = [*VALUE_OPTIONS, *FLAGS, "--help"]
    key = name.lstrip("-").replace("-", "_")
    shown = value or (rest[0] if rest and not rest[0].startswith("-") else "VALUE")
    override = f"To change a setting give {key}={shown}; to" if re.fullmatch(r"[A-Za-z_][\w.]+", key) else "To"
    close = difflib.get_close_matches(name, [option for option in known if option.startswith("--")], n=1, cutoff=0.7)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    return ConfigError(
        f"option {name}: unknown; allowed: {', '.join(known)}.{guess} "
        f"{override} hand it to the script put it after --: -- {arg}"
    )
