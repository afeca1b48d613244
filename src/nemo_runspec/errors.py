"""Every error this project raises on purpose.

    RunspecError                      base; its message is one line for a person
    ├── ConfigError (ValueError)      a config, profile, option or runspec that cannot be used
    ├── ConfigNotFound (FileNotFoundError)
    ├── RequirementError              something this machine lacks: a package, a GPU, disk space
    ├── DataError (ValueError)        input data that cannot be used: missing, empty, binary, not UTF-8
    ├── CheckpointError               no usable checkpoint where one is needed
    ├── ArtifactError
    │   ├── ArtifactNotFound (LookupError)
    │   ├── ArtifactCorrupted         content differs from its recorded digest
    │   └── StoreError (OSError)      the store itself cannot be read or written
    ├── MirrorError                   the W&B server or its client did not do what was asked
    ├── SlurmError
    │   ├── SlurmRefused              Slurm said no to a job: account, partition, limits
    │   └── SlurmUnreachable          no answer; says nothing about any job
    └── StageFailed                   a stage's process or job ended badly
        └── StageCancelled            because somebody wanted it to

Messages say what was wrong, its value and origin, what is allowed, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RunspecError(Exception):
    """Base of the tree; `str(error)` is one line fit to show to a user."""


class ConfigError(RunspecError, ValueError):
    """A config, profile, option or runspec that cannot be used."""


class ConfigNotFound(RunspecError, FileNotFoundError):
    """A config or script file that is not where it was looked for."""


class RequirementError(RunspecError):
    """Something this machine lacks: a package, a GPU, disk space."""


class DataError(RunspecError, ValueError):
    """Input data that cannot be used."""


class CheckpointError(RunspecError):
    """No usable checkpoint where one is needed."""


class ArtifactError(RunspecError):
    """Anything about artifacts."""


class ArtifactNotFound(ArtifactError, LookupError):
    """No such artifact, version or alias."""


class ArtifactCorrupted(ArtifactError):
    """Content differs from its recorded digest or size."""


class StoreError(ArtifactError, OSError):
    """The store itself cannot be read or written."""


class MirrorError(RunspecError):
    """The W&B server or its client did not do what was asked; `server_wide` when nothing else would succeed either."""

    def __init__(self, message: str, *, server_wide: bool = False) -> None:
        super().__init__(message)
        self.server_wide = server_wide


class SlurmError(RunspecError):
    """Anything about Slurm."""


class SlurmRefused(SlurmError):
    """Slurm said no to a job."""


class SlurmUnreachable(SlurmError):
    """Slurm, the login node or the shared file system gave no answer; that says nothing about any job."""


class StageFailed(RunspecError):
    """A stage's process or job ended badly; `may_retry` when the script itself gave no reason, as after a kill.

    `exit_code` is that of the script, as a shell tells it (128 + N for signal N), 1 where none is known.
    """

    def __init__(self, message: str, *, may_retry: bool = False, exit_code: int = 1) -> None:
        super().__init__(message)
        self.may_retry = may_retry
        self.exit_code = exit_code


class StageCancelled(StageFailed):
    """The stage was ended because somebody wanted it to."""


def did_you_mean(value: str, allowed: Iterable[str]) -> str:
    """` Did you mean X?` for the closest allowed name, else an empty string."""
    close = difflib.get_close_matches(value, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
