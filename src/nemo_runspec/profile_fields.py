"""The fields of a profile and what each may hold, for all forms of it: the table in env.toml and the Prefect block.

Only `env_vars` is not among them: its values are plain text in one form and secrets in the other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nemo_runspec.errors import did_you_mean
from nemo_runspec.slurm.sbatch_words import CONTROL, FIELD_OPTIONS, JOB_PATH, OWN_OPTIONS, VARIABLE

SUPPORTED_EXECUTORS = ("local", "slurm")
KNOWN_EXECUTORS = (
    *SUPPORTED_EXECUTORS,
    *("docker", "dgxcloud", "lepton", "skypilot", "skypilot_jobs", "kubeflow", "kuberay", "ray", "run"),
)
ENV_VARS = "Environment variables of the job, name to value. They reach it in a file of mode 0600"

_DIRECTIVES = (
    *("account", "partition", "run_partition", "batch_partition", "qos", "constraint", "reservation"),
    *("nodelist", "exclude"),
)
_ONE_LINE = ("container_image", "python", "host", "user", "identity", "packager")
_COUNTS = (
    *("nodes", "ntasks_per_node", "nproc_per_node", "gpus_per_node", "cpus_per_task", "port"),
    *("infrastructure_retries", "failure_retries", "poll_interval_s", "stop_before_end_s"),
)
_OPTION = re.compile(r"[a-z][a-z0-9-]*")
_MEM = re.compile(r"[0-9]+[KMGT]?")
_TIME = re.compile(r"[0-9]+(:[0-9]+(:[0-9]+)?)?|[0-9]+-[0-9]+(:[0-9]+(:[0-9]+)?)?")
_YAML_HOUR = 3600  # YAML 1.1 reads 1:00:00 and more as a number of seconds


class ProfileFields(BaseModel):
    """What all forms of a profile share. Each field has a default, so that profiles stored earlier load."""

    model_config = ConfigDict(hide_input_in_errors=True)

    executor: str = Field(default="local", description="Where stages run: local (this machine) or slurm")
    submitter: Literal["submitit", "nemo-run"] = Field(
        default="submitit", description="What writes the batch script of a Slurm job"
    )
    account: str | None = Field(default=None, description="sbatch --account")
    partition: str | None = Field(default=None, description="sbatch --partition, unless one of the next two is set")
    run_partition: str | None = Field(default=None, description="sbatch --partition of attached runs")
    batch_partition: str | None = Field(default=None, description="sbatch --partition of detached runs")
    qos: str | None = Field(default=None, description="sbatch --qos")
    constraint: str | None = Field(default=None, description="sbatch --constraint: features of the nodes")
    reservation: str | None = Field(default=None, description="sbatch --reservation")
    nodes: int | None = Field(default=None, ge=1, description="sbatch --nodes: number of nodes")
    ntasks_per_node: int | None = Field(default=None, ge=1, description="sbatch --ntasks-per-node: tasks on each node")
    nproc_per_node: int | None = Field(
        default=None, ge=1, description="torchrun --nproc-per-node: processes on each node"
    )
    gpus_per_node: int | None = Field(default=None, ge=0, description="sbatch --gpus-per-node: GPUs on each node")
    cpus_per_task: int | None = Field(default=None, ge=1, description="sbatch --cpus-per-task: CPUs for each task")
    mem: str | None = Field(
        default=None, description="sbatch --mem: memory on each node, in MiB or with K, M, G, T; 0: all"
    )
    time: str | None = Field(
        default=None, description="sbatch --time: the time limit as M, M:S, H:M:S, D-H, D-H:M or D-H:M:S; minutes alone"
    )
    exclusive: bool = Field(default=False, description="sbatch --exclusive: share the nodes with no other job")
    nodelist: str | None = Field(default=None, description="sbatch --nodelist: nodes that must be used")
    exclude: str | None = Field(default=None, description="sbatch --exclude: nodes that must not be used")
    requeue: bool = Field(
        default=False, description="sbatch --requeue: Slurm itself may start the same job again; off: --no-requeue"
    )
    container_image: str | None = Field(default=None, description="srun --container-image (Pyxis): image or .sqsh file")
    mounts: tuple[str, ...] = Field(default=(), description="srun --container-mounts (Pyxis): SRC:DST[:FLAGS] each")
    setup_lines: tuple[str, ...] = Field(
        default=(), description="Shell lines of the batch script, run on its first node before srun"
    )
    startup_commands: tuple[str, ...] = Field(
        default=(), description="Shell commands that each node runs before the script, in the container if there is one"
    )
    remote_job_dir: str | None = Field(
        default=None, description="Absolute path for job directories, on a file system that all nodes share"
    )
    python: str | None = Field(default=None, description="Python interpreter on the nodes; this one by default")
    packager: str | None = Field(
        default=None, description="What code travels: pattern, code or self_contained; by default what the script says"
    )
    tunnel: Literal["local", "ssh"] = Field(
        default="local", description="How Slurm's programs are reached: on this machine, or on `host` by ssh"
    )
    host: str | None = Field(default=None, description="ssh: the login node")
    user: str | None = Field(default=None, description="ssh -l: the user there")
    identity: str | None = Field(default=None, description="ssh -i: file of the private key")
    port: int | None = Field(default=None, ge=1, le=65535, description="ssh -p: TCP port")
    sbatch: dict[str, str | int | bool] = Field(
        default_factory=dict, description="Further long options of sbatch without dashes, as gres; true: a flag"
    )
    infrastructure_retries: int = Field(
        default=5, ge=0, description="New attempts after a node failure, a preemption or a failed launch"
    )
    failure_retries: int = Field(default=1, ge=0, description="New attempts after an exit that gave no reason")
    poll_interval_s: float = Field(
        default=20.0, ge=1, allow_inf_nan=False, description="Seconds between two queries of squeue and sacct"
    )
    stop_before_end_s: int = Field(
        default=120,
        ge=0,
        description="sbatch --signal: seconds before the time limit at which the job is told to save a checkpoint and "
        "stop; 0: never. Slurm may signal up to 60 s early",
    )
    extra: dict[str, Any] = Field(
        default_factory=dict, description="Fields of an executor that is known and not run here, kept as they are"
    )

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {key: value for key, value in values.items() if value is not None or key not in cls.model_fields}

    @field_validator("executor")
    @classmethod
    def _check_executor(cls, value: str) -> str:
        if value not in KNOWN_EXECUTORS:
            raise ValueError(f"allowed: {', '.join(KNOWN_EXECUTORS)}.{did_you_mean(value, KNOWN_EXECUTORS)}")
        return value

    @field_validator(*_COUNTS, mode="before")
    @classmethod
    def _check_number(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("expected a number")
        return value

    @field_validator(*_DIRECTIVES)
    @classmethod
    def _check_directive(cls, value: str | None) -> str | None:
        return value if value is None else check_directive(value)

    @field_validator(*_ONE_LINE)
    @classmethod
    def _check_one_line(cls, value: str | None) -> str | None:
        return value if value is None else check_line(value)

    @field_validator("host", "user", "identity")
    @classmethod
    def _check_ssh_word(cls, value: str | None) -> str | None:
        if value is not None and value.startswith("-"):
            raise ValueError("ssh would take it for an option; expected no dash at its start")
        return value

    @field_validator("mem", mode="before")
    @classmethod
    def _check_mem(cls, value: Any) -> Any:
        text = str(value) if _is_int(value) else value
        if isinstance(text, str) and not _MEM.fullmatch(text):
            raise ValueError("expected digits and K, M, G or T, as 64G")
        return text

    @field_validator("time", mode="before")
    @classmethod
    def _check_time(cls, value: Any) -> Any:
        if _is_int(value) and value >= _YAML_HOUR:
            clock = f"{value // 3600}:{value // 60 % 60:02}:{value % 60:02}"
            raise ValueError(
                f"either {value} minutes, or {clock} without quotes, which YAML reads as a number of seconds; "
                f"write {clock!r} in quotes, or the days as '{value // 1440}-{value // 60 % 24:02}:{value % 60:02}'"
            )
        text = str(value) if _is_int(value) else value
        if isinstance(text, str) and not _TIME.fullmatch(text):
            raise ValueError("expected M, M:S, H:M:S, D-H, D-H:M or D-H:M:S, as 04:00:00")
        return text

    @field_validator("mounts")
    @classmethod
    def _check_mounts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for mount in value:
            if "," in check_line(mount):
                raise ValueError(f"{mount!r} has a comma, which separates mounts; expected SRC:DST")
        return value

    @field_validator("setup_lines", "startup_commands", mode="before")
    @classmethod
    def _split_lines(cls, value: Any) -> Any:
        return tuple(value.removesuffix("\n").split("\n")) if isinstance(value, str) else value

    @field_validator("setup_lines", "startup_commands")
    @classmethod
    def _check_shell_text(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for line in value:
            check_text(line)
        return value

    @field_validator("remote_job_dir")
    @classmethod
    def _check_job_dir(cls, value: str | None) -> str | None:
        if value is not None and not JOB_PATH.fullmatch(value):
            raise ValueError(
                "expected an absolute path of letters, digits and . _ / + : @ = , - only: it goes into scripts"
            )
        return value

    @field_validator("sbatch", mode="before")
    @classmethod
    def _check_sbatch(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            for name, content in value.items():
                _check_option(str(name), content)
        return value

    @field_validator("extra")
    @classmethod
    def _check_extra(cls, value: dict[str, Any]) -> dict[str, Any]:
        _check_plain(value)
        return value

    @model_validator(mode="after")
    def _check_together(self) -> ProfileFields:
        if self.executor not in SUPPORTED_EXECUTORS:
            return self
        if self.extra:
            raise ValueError(
                f"extra: {', '.join(self.extra)}: executor {self.executor!r} has no further fields; remove it"
            )
        if self.tunnel == "ssh" and not self.host:
            raise ValueError('tunnel = "ssh" also needs host, the name of the login node')
        return self


def check_env_vars(values: object) -> dict[str, str]:
    """The variables with their values as text; no message holds a value, which may be secret.

    Raises:
        ValueError: not a table, a name that no shell takes, or a value that is no text, number or boolean.
    """
    if not isinstance(values, Mapping):
        raise ValueError("expected a table of names and values")
    texts: dict[str, str] = {}
    for name, value in values.items():
        if not isinstance(name, str) or not VARIABLE.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a variable; expected letters, digits and _, no digit first")
        if not isinstance(value, str | int | float):
            raise ValueError(f"{name} is of type {type(value).__name__}; expected text, a number, true or false")
        texts[name] = str(value).lower() if isinstance(value, bool) else str(value)
        if not _is_text(texts[name]):
            raise ValueError(f"{name} holds a NUL or what is not UTF-8, which no variable can; remove it")
    return texts


def check_text(value: str) -> str:
    """Return the text; ValueError for one that no file or command can hold."""
    if not _is_text(value):
        raise ValueError(f"{value!r} holds a NUL or what is not UTF-8; remove it")
    return value


def check_line(value: str) -> str:
    """Return the text; ValueError unless it is one line and not empty."""
    if not value or CONTROL.search(value):
        raise ValueError(f"{value!r}: expected one line, not empty and without control characters")
    return check_text(value)


def check_directive(value: str) -> str:
    """Return the text; ValueError for what sbatch would not read back from a `#SBATCH` line."""
    # sbatch reads a backslash as an escape even within single quotes.
    if "\\" in check_line(value):
        raise ValueError(f"{value!r}: sbatch reads a backslash as an escape; expected none")
    return value


def _check_option(name: str, content: object) -> None:
    if not _OPTION.fullmatch(name):
        proposal = name.strip("-").replace("_", "-").lower()
        raise ValueError(f"{name!r} is no long option of sbatch without its dashes; write it as {proposal!r}")
    if name in OWN_OPTIONS:
        raise ValueError(f"option {name!r} is set for each job by nemotron; remove it")
    if name in FIELD_OPTIONS:
        raise ValueError(f"option {name!r} has a field of its own; set {FIELD_OPTIONS[name]} instead")
    if not isinstance(content, str | int):
        raise ValueError(f"option {name!r} = {content!r}; expected text, a whole number, true or false")
    if isinstance(content, str):
        check_directive(content)


def _check_plain(value: object) -> None:
    """ValueError for what TOML and JSON do not both hold without loss."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_text(str(key))
            _check_plain(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_plain(item)
    elif isinstance(value, str):
        check_text(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value!r} is not finite")
    elif not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ValueError(f"{value!r} is no text, 64-bit number, boolean, list or table")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: str) -> bool:
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False
