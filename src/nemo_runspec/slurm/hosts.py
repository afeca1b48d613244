"""Where Slurm's programs and a job's files are: this machine, or a login node over one persistent SSH connection."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nemo_runspec.errors import SlurmUnreachable

# What an allocation, or a site's defaults, would push into a job submitted from inside it: sbatch(1), srun(1).
_ALLOCATION = re.compile(r"^(SLURM_(?!CONF$|TIME_FORMAT$)|SLURMD_|SBATCH_|SRUN_|SALLOC_|PMI_|PMIX_|PMI2_)")


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A command that ran to its end."""

    code: int
    out: str
    err: str


class Host(Protocol):
    """Runs commands and holds files. A command or file that cannot be reached raises `SlurmUnreachable`."""

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: str = "") -> Completed:
        """Run the command, without what this process inherited from a Slurm allocation."""

    def read(self, path: Path, *, begin: int = 0) -> bytes | None:
        """The file's content from a byte on; None if there is no such file."""

    def write(self, path: Path, content: str, *, mode: int) -> None:
        """Write a file whole, with its parent directories, never readable by more than `mode` says."""


def clean_environment() -> dict[str, str]:
    """This process's environment as a login node's shell would have it."""
    return {name: value for name, value in os.environ.items() if not _ALLOCATION.match(name)}


@dataclass(frozen=True, kw_only=True)
class LocalHost:
    """This machine."""

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: str = "") -> Completed:
        """See `Host.run`."""
        return _run(argv, env=clean_environment(), timeout_s=timeout_s, stdin=stdin)

    def read(self, path: Path, *, begin: int = 0) -> bytes | None:
        """See `Host.read`."""
        try:
            with path.open("rb") as file:
                file.seek(begin)
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:  # a shared file system that hangs or was remounted is no verdict on a job
            raise SlurmUnreachable(f"{path}: {error.strerror or error}") from error

    def write(self, path: Path, content: str, *, mode: int) -> None:
        """See `Host.write`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        partial.replace(path)


@dataclass(frozen=True, kw_only=True)
class SshHost:
    """A login node. Host keys must be known already; one connection is kept for ten minutes and shared.

    `control_dir` holds the connection's socket: private, and short enough for a Unix socket's 108 bytes.
    """

    host: str
    user: str | None = None
    port: int | None = None
    identity: str | None = None
    known_hosts: str | None = None
    control_dir: Path

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: str = "") -> Completed:
        """See `Host.run`; the remote shell gets each argument quoted."""
        command = [*self.command(), shlex.join(argv)]
        done = _run(command, env=dict(os.environ), timeout_s=timeout_s, stdin=stdin)
        if done.code == 255 and self._is_ours(done.err):  # ssh(1), "EXIT STATUS"; programs may exit 255 too
            raise SlurmUnreachable(f"ssh {self.host}: {_last_line(done.err)}{self._advice(done.err)}")
        return done

    def read(self, path: Path, *, begin: int = 0) -> bytes | None:
        """See `Host.read`."""
        script = 'test -e "$1" || exit 44; tail -c "+$2" -- "$1"'
        done = self.run(["sh", "-c", script, "sh", str(path), str(begin + 1)], timeout_s=60)
        if done.code == 44:
            return None
        if done.code != 0:
            raise SlurmUnreachable(f"ssh {self.host}: cannot read {path}: {_last_line(done.err)}")
        return done.out.encode()

    def write(self, path: Path, content: str, *, mode: int) -> None:
        """See `Host.write`."""
        script = (
            'umask 077 && mkdir -p -- "${1%/*}" && cat > "$1.partial" && chmod "$2" "$1.partial" && '
            'mv -- "$1.partial" "$1"'
        )
        done = self.run(["sh", "-c", script, "sh", str(path), f"{mode:o}"], timeout_s=60, stdin=content)
        if done.code != 0:
            raise SlurmUnreachable(f"ssh {self.host}: cannot write {path}: {_last_line(done.err)}")

    def command(self) -> list[str]:
        """The ssh client with its options: ssh_config(5)."""
        self.control_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ControlMaster": "auto",
            "ControlPath": f"{self.control_dir}/%C",
            "ControlPersist": "600",
            "ConnectTimeout": "15",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "3",
        }
        if self.known_hosts:
            options["UserKnownHostsFile"] = self.known_hosts
        words = ["ssh", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
        words += ["-p", str(self.port)] if self.port else []
        words += ["-i", self.identity] if self.identity else []
        return [*words, "--", f"{self.user}@{self.host}" if self.user else self.host]

    def _is_ours(self, err: str) -> bool:
        return "sbatch" not in err and "srun" not in err

    def _advice(self, err: str) -> str:
        if "Host key verification failed" in err or "REMOTE HOST IDENTIFICATION HAS CHANGED" in err:
            return f"; check the key with the site, then add it: ssh-keyscan {self.host} >> ~/.ssh/known_hosts"
        if "Permission denied" in err:
            return "; name a key that needs no passphrase with identity = FILE, or load it into ssh-agent"
        return ""


def _run(argv: Sequence[str], *, env: dict[str, str], timeout_s: float, stdin: str) -> Completed:
    try:
        done = subprocess.run(
            argv,
            env=env,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
            start_new_session=True,
        )  # a session of its own: Ctrl-C must not end an sbatch that has been sent
    except FileNotFoundError as error:
        raise SlurmUnreachable(f"{argv[0]} is not installed here; go to a login node, or set tunnel = ssh") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmUnreachable(f"{argv[0]} did not answer within {timeout_s:.0f} s") from error
    return Completed(code=done.returncode, out=done.stdout, err=done.stderr)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
