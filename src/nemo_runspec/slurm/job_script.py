"""The batch script around what a submitter rendered: it claims the attempt, hands on a stop, records the end.

Pure but for `read_done`. The job runs in its attempt's directory and leaves there
    claim       a symbolic link to the id of the job that does the attempt; made atomically, so that a second job that
                was submitted for it ends at once and does nothing
    heartbeat   touched every 15 s
    stop        some time before the time limit: save a checkpoint and end
    done.json   exit code, times and nodes
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from nemo_runspec.errors import ConfigError
from nemo_runspec.slurm.ledger import Attempt
from nemo_runspec.slurm.sbatch_words import JOB_PATH, VARIABLE
from nemo_runspec.slurm.states import DoneRecord

HEARTBEAT_S = 15

# sbatch(1) --signal: USR1 goes to this shell alone; it is not passed on, because torchrun and Ray would die of it. One
# that comes before the script is ready for it must not end the shell, hence the first trap.
_BODY = """\
trap : USR1
set +x
cd {folder} || exit 1
ln -sT -- "$SLURM_JOB_ID" claim 2>/dev/null
claimed=$(readlink claim)
if [ -z "$claimed" ]; then echo "error: cannot write to $PWD on $(hostname)" >&2; exit 1; fi
if [ "$claimed" != "$SLURM_JOB_ID" ]; then echo "job $claimed does this attempt; nothing to do"; exit 0; fi
if [ -e cancel.json ]; then echo "cancelled before it began"; exit 0; fi
rm -f done.json stop
{stop_earlier}
started=$(date +%s) stop_requested=false payload= heart=
finish() {{
  code=$?
  trap - EXIT
  [ -z "$heart" ] || kill "$heart" 2>/dev/null
  printf '{{"job_id": %d, "exit_code": %d, "started": %d, "ended": %d, "stop_requested": %s, "nodes": "%s"}}\\n' \\
    "$SLURM_JOB_ID" "$code" "$started" "$(date +%s)" "$stop_requested" "$SLURM_JOB_NODELIST" > .done.json &&
    mv -f .done.json done.json
  exit "$code"
}}
trap finish EXIT
trap 'stop_requested=true; echo "the time limit is near: stopping at a checkpoint"; : > stop' USR1
trap '[ -z "$payload" ] || kill -TERM "$payload" 2>/dev/null' TERM
(trap - EXIT USR1 TERM; while sleep {heartbeat_s}; do touch heartbeat; done) &
heart=$!
. ./env.sh
bash payload.sh &
payload=$!
wait "$payload"
code=$?
while kill -0 "$payload" 2>/dev/null; do wait "$payload"; code=$?; done
exit "$code"
"""


def split_script(rendered: str) -> tuple[list[str], str]:
    """The directives of a batch script, which end where sbatch(1) ends to look for them, and its body."""
    lines = rendered.split("\n")
    begin = next((number for number, line in enumerate(lines) if line and not line.startswith("#")), len(lines))
    directives = [line for line in lines[:begin] if line.startswith("#SBATCH ")]
    return directives, "\n".join(lines[begin:])


def render_job_script(rendered: str, attempt: Attempt) -> str:
    """The batch script: the directives that the submitter rendered, then our own lines; it runs payload.sh."""
    directives, _ = split_script(rendered)
    earlier = [f": > ../a{number}/stop 2>/dev/null" for number in range(1, attempt.intent.number)]
    body = _BODY.format(
        folder=shlex.quote(str(attempt.folder)),
        stop_earlier="\n".join(earlier),  # a job on a node that Slurm holds for dead may still run
        heartbeat_s=HEARTBEAT_S,
    )
    return "\n".join(["#!/bin/bash", *directives, body])


def submit_options(
    attempt: Attempt, *, stop_before_end_s: int, requeue: bool, exclude: Sequence[str] = ()
) -> list[str]:
    """What an attempt adds to the directives of its stage, as sbatch options."""
    return [
        f"--job-name={attempt.intent.key}",
        f"--comment={attempt.intent.key}",
        f"--chdir={attempt.folder}",
        f"--output={attempt.log_path}",
        "--open-mode=append",
        "--requeue" if requeue else "--no-requeue",
        "--kill-on-invalid-dep=yes",
        *([f"--signal=B:USR1@{stop_before_end_s}"] if stop_before_end_s else []),
        *([f"--exclude={','.join(exclude)}"] if exclude else []),
    ]


def render_env(variables: Mapping[str, str]) -> str:
    """A shell file that exports the variables, each value as it is.

    Raises:
        ConfigError: a name that no shell takes, or a value with a NUL.
    """
    lines = []
    for name, value in variables.items():
        if not VARIABLE.fullmatch(name):
            raise ConfigError(f"env_vars: {name!r} is no name of an environment variable; use letters, digits and _")
        if "\0" in value:
            raise ConfigError(f"env_vars: {name} holds a NUL character, which no environment variable can; remove it")
        lines.append(f"export {name}={shlex.quote(value)}")
    return "\n".join([*lines, ""])


def check_path(path: Path) -> None:
    """Raise ConfigError for a job directory that would not survive sbatch's own patterns and a shell unquoted."""
    if not JOB_PATH.fullmatch(str(path)):
        raise ConfigError(
            f"{str(path)!r}: a job's directory may hold letters, digits and . _ / + : @ = , - only, because it goes "
            "into job scripts; start from another directory, or set remote_job_dir in the profile"
        )


def read_done(content: bytes | None) -> DoneRecord | None:
    """The record that the job left, None if there is none or it is torn."""
    try:
        return DoneRecord(**json.loads(content or b""))
    except (ValueError, TypeError):
        return None
