"""Refuses, before anything is rendered, what a batch script cannot say or what this project says itself."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nemo_runspec.errors import ConfigError
from nemo_runspec.slurm.sbatch_words import CONTROL, FIELD_OPTIONS, OWN_OPTIONS
from nemo_runspec.slurm.spec import JobSpec
from nemo_runspec.submitters.script_text import WORD_FIELDS

# sbatch(1): beyond what a profile refuses already, what would change how the job is found or what sbatch does.
_OWN_OPTIONS = OWN_OPTIONS | {
    *("wckey", "dependency", "hold", "begin", "clusters", "heterogeneous", "export-file", "get-user-env", "input"),
    *("quiet", "verbose", "help", "usage", "version"),
}
_FIELD_OPTIONS = {**FIELD_OPTIONS, "ntasks": "ntasks_per_node"}
_OPTION = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_DIRECTIVE_FIELDS = ("mem", "time_limit", *WORD_FIELDS)
_AT_LEAST = {"nproc_per_node": 1, "nodes": 1, "ntasks_per_node": 1, "gpus_per_node": 0, "cpus_per_task": 1}


def check_spec(spec: JobSpec) -> None:
    """Raise ConfigError for a spec that cannot be written as a batch script word for word."""
    _check_numbers(spec)
    _check_directives(spec)
    _check_options(spec)
    _check_mounts(spec)
    _check_shell_text(spec)
    if len(spec.command) == 0 or not spec.command[0]:
        raise ConfigError(f"{spec.stage}: command = {list(spec.command)!r}; expected an interpreter and its arguments")


def _check_numbers(spec: JobSpec) -> None:
    for name, least in _AT_LEAST.items():
        value = vars(spec)[name]
        if value is None and name == "cpus_per_task":
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f"{spec.stage}: {name} = {value!r}; expected a whole number, {least} or more")


def _check_directives(spec: JobSpec) -> None:
    for name in _DIRECTIVE_FIELDS:
        _check_directive(spec, name, vars(spec)[name])


def _check_directive(spec: JobSpec, name: str, value: object) -> None:
    if value is None:
        return
    text = str(value)
    # sbatch reads a backslash as an escape even within single quotes.
    if not text or "\\" in text or CONTROL.search(text):
        raise ConfigError(
            f"{spec.stage}: {name} = {value!r}; an option of sbatch is one line, not empty and without backslashes"
        )
    _check_encoding(spec, name, text)


def _check_options(spec: JobSpec) -> None:
    for name, value in spec.sbatch.items():
        if not _OPTION.fullmatch(name):
            raise ConfigError(
                f"{spec.stage}: sbatch option {name!r}; expected a long option of sbatch without its dashes, as 'gres'"
            )
        if name in _OWN_OPTIONS:
            raise ConfigError(f"{spec.stage}: sbatch option {name!r} is set for each job by nemotron; remove it")
        if name in _FIELD_OPTIONS:
            raise ConfigError(
                f"{spec.stage}: sbatch option {name!r}; set {_FIELD_OPTIONS[name]} in the profile instead"
            )
        _check_directive(spec, f"sbatch option {name!r}", value)


def _check_mounts(spec: JobSpec) -> None:
    for name, values in (("mounts", spec.mounts), ("container_image", (spec.container_image or "image",))):
        for value in values:
            if not value or CONTROL.search(value) or (name == "mounts" and "," in value):
                raise ConfigError(f"{spec.stage}: {name}: {value!r}; expected one line, and a mount has no comma")
            _check_encoding(spec, name, value)


def _check_shell_text(spec: JobSpec) -> None:
    texts: Iterable[tuple[str, tuple[str, ...]]] = (
        ("command", spec.command),
        ("setup_lines", spec.setup_lines),
        ("startup_commands", spec.startup_commands),
    )
    for name, values in texts:
        for value in values:
            if "\0" in value:
                raise ConfigError(
                    f"{spec.stage}: {name}: {value!r} holds a NUL character, which no command can; remove it"
                )
            _check_encoding(spec, name, value)
    for line in "\n".join(spec.setup_lines).splitlines():
        if line.startswith("#SBATCH"):
            raise ConfigError(
                f"{spec.stage}: setup_lines: {line!r}; give options of sbatch in the profile's sbatch table"
            )


def _check_encoding(spec: JobSpec, name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{spec.stage}: {name}: {text!r} is not UTF-8; rename it") from error
