"""The words of the command line put into the order that the parser takes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nemo_runspec.cli_context import FLAGS, is_separate, value_option
from nemo_runspec.errors import ConfigError

Command = tuple[str, ...]


class UnknownCommand(ConfigError):
    """There is no recipe command for the options that were given."""


def take_debug(args: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without `--debug`, and whether it was there before a `--`."""
    ours, rest = _split_at_dashes(args)
    return [arg for arg in ours if arg != "--debug"] + rest, "--debug" in ours


def hoist(args: Sequence[str], commands: Collection[Command]) -> list[str]:
    """The arguments with options and overrides of a recipe command after it, wherever they stood.

    >>> hoist(["-r", "lab", "nano3", "train.lr=1", "sft", "-d"], [("nano3", "sft")])
    ['nano3', 'sft', '-r', 'lab', 'train.lr=1', '-d']

    Raises:
        UnknownCommand: there are such options and no recipe command.
    """
    ours, script_args = _split_at_dashes(args)
    path: Command = ()
    moved: list[str] = []
    rest = list(ours)
    while rest and path not in commands:
        arg = rest.pop(0)
        if arg in FLAGS or value_option(arg) is not None:
            moved.append(arg)
            if is_separate(arg) and rest and not rest[0].startswith("-"):
                moved.append(rest.pop(0))
        elif "=" in arg and not arg.startswith("-"):
            moved.append(arg)
        elif arg.startswith("-") or not _is_prefix((*path, arg), commands):
            return _without_command(args, moved, path, [arg, *rest], commands)
        else:
            path = (*path, arg)
    if path not in commands:
        return _without_command(args, moved, path, rest, commands)
    return [*path, *moved, *rest, *script_args]


def _without_command(
    args: Sequence[str], moved: Sequence[str], path: Command, rest: Sequence[str], commands: Collection[Command]
) -> list[str]:
    """What is said where no recipe command was found: nothing, if no option of one was given either."""
    if not moved or not {"-h", "--help"}.isdisjoint(rest):
        return [arg for arg in args if arg not in moved] if moved else list(args)
    known = sorted(" ".join(command) for command in commands if command[: len(path)] == path)
    where = f" after {' '.join(path)!r}" if path else ""
    found = f", found {rest[0]!r}" if rest else ""
    raise UnknownCommand(
        f"{' '.join(moved)}: belongs to a recipe command; expected one{where}{found}; have: {', '.join(known)}"
    )


def _is_prefix(path: Command, commands: Collection[Command]) -> bool:
    return any(command[: len(path)] == path for command in commands)


def _split_at_dashes(args: Sequence[str]) -> tuple[list[str], list[str]]:
    position = args.index("--") if "--" in args else len(args)
    return list(args[:position]), list(args[position:])
