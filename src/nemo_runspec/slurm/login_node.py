"""What must hold of a login node before a job is submitted there: it has Slurm's programs, and shares our directories.

With tunnel = "ssh" only Slurm's programs run there. Job files, logs and results are read and written here, under the
same paths as on the cluster's nodes.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from nemo_runspec.errors import ConfigError
from nemo_runspec.slurm.hosts import Host, SshHost

_PROGRAMS = ("sbatch", "squeue", "sacct", "scancel")
_VISIBLE_WITHIN_S = 2.0
"""A new name is looked up on the server, also by an NFS client that caches; this is for a directory that is new."""


def check_login_node(host: Host, folders: Mapping[str, Path]) -> None:
    """Check a login node once in a process; on this machine there is nothing to check.

    `folders`: what must be the same directory here and there, by the name of the setting that says where it is.

    Raises:
        ConfigError: a program is not on the PATH of commands there, or a directory is not shared.
        SlurmUnreachable: the login node cannot be reached, and why.
    """
    if not isinstance(host, SshHost):
        return
    _check_programs(host)
    for setting, folder in folders.items():
        _check_shared(host, folder, setting)


@cache
def _check_programs(host: SshHost) -> None:
    script = 'for name; do command -v "$name" > /dev/null || echo "$name"; done'
    done = host.run(["sh", "-c", script, "sh", *_PROGRAMS], timeout_s=60)
    if missing := done.out.split():
        raise ConfigError(
            f"{host.host} has no {', '.join(missing)} on the PATH of a command over ssh; "
            f"set PATH for such commands there (often: at the top of ~/.bashrc), then try: ssh {host.host} sbatch -V"
        )


@cache
def _check_shared(host: SshHost, folder: Path, setting: str) -> None:
    nonce = secrets.token_hex(16)
    file = folder / f".shared-{nonce}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(nonce)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}; set {setting} to a directory that you can write") from error
    try:
        deadline = time.monotonic() + _VISIBLE_WITHIN_S
        while host.read(file) != nonce.encode():
            if time.monotonic() >= deadline:
                raise ConfigError(
                    f"{folder} is not visible on {host.host}; set {setting} to a directory that both share"
                )
            time.sleep(0.5)
    finally:
        with contextlib.suppress(OSError):
            file.unlink()
