"""Where Slurm's programs and a job's files are: this machine, or a login node over one persistent SSH connection."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shlex
import socket
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nemo_runspec.errors import ConfigError, SlurmUnreachable

# What an allocation, or a site's defaults, would push into a job submitted from inside it: sbatch(1), srun(1).
_ALLOCATION = re.compile(r"^(SLURM_(?!CONF$|TIME_FORMAT$)|SLURMD_|SBATCH_|SRUN_|SALLOC_|PMI_|PMIX_|PMI2_)")
_FILE_TIMEOUT_S = 60.0
_CONNECT_MARGIN_S = 30.0
"""Beyond ssh's own ConnectTimeout, which does not bound the login: a site's directory service may be slow."""
# unix(7): 108 bytes with the NUL; ssh binds the socket under a temporary name that is 17 bytes longer.
_MAX_SOCKET_BYTES = 108 - 1 - 17
# ssh_config(5). Nothing of a user's own forwards, commands or log level may get between a command and its answer.
_SSH_OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "UpdateHostKeys": "no",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ClearAllForwardings": "yes",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "LogLevel": "ERROR",
    "ControlPersist": "600",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "3",
}
# The mark tells the command's output from what a login script prints, and an end from a lost connection: ssh exits
# with 255 when it fails, and so does sbatch.
_MARKED = 'm=$1; shift; printf %s "$m"; printf %s "$m" >&2; "$@"; c=$?; printf "%s %d\\n" "$m" "$c" >&2; exit "$c"'
# A cut connection looks like the end of the content, hence its length.
_WRITE = (
    'mkdir -p -- "${1%/*}" && umask 077 && t=$(mktemp -- "${1%/*}/.${1##*/}.XXXXXX") && cat > "$t" && '
    '[ "$(wc -c < "$t")" -eq "$3" ] && chmod "$2" "$t" && sync -- "$t" && mv -fT -- "$t" "$1" || '
    '{ rm -f -- "$t"; exit 1; }'
)


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A command that ran to its end; a negative code is the signal that ended it."""

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
        try:
            done = _run(argv, env=clean_environment(), timeout_s=timeout_s, stdin=_encode(stdin))
        except FileNotFoundError as error:
            raise SlurmUnreachable(
                f"{argv[0]} is not installed here; go to a login node, or set tunnel = ssh"
            ) from error
        return Completed(code=done.returncode, out=_decode(done.stdout), err=_decode(done.stderr))

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
        partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_encode(content))
                os.fchmod(descriptor, mode)
                file.flush()
                os.fsync(descriptor)
            partial.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise SlurmUnreachable(f"cannot write {path}: {error.strerror or error}") from error


@dataclass(frozen=True, kw_only=True)
class SshHost:
    """A login node, reached as `ssh` reaches it: what is not given here comes from ~/.ssh/config.

    Host keys must be known already, and nothing is ever asked. One connection carries the commands of all threads and
    processes of this user and ends after ten idle minutes; when it is lost, the next command makes a new one. Its
    socket is in `control_dir`, which must be a directory of ours that nobody else may enter.

    Raises:
        ConfigError: a `control_dir` that is too long, or that somebody else can use.
    """

    host: str
    user: str | None = None
    port: int | None = None
    identity: str | None = None
    control_dir: Path
    connect_timeout_s: int = 15

    def __post_init__(self) -> None:
        if len(os.fsencode(self.socket_path)) > _MAX_SOCKET_BYTES:
            raise ConfigError(
                f"{self.socket_path}: longer than the {_MAX_SOCKET_BYTES} bytes that an ssh control socket may have; "
                "set TMPDIR to a directory with a shorter name"
            )

    @property
    def socket_path(self) -> Path:
        """The shared connection's socket."""
        identity = repr((self.host, self.user, self.port, self.identity))
        return self.control_dir / hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: str = "") -> Completed:
        """See `Host.run`; each argument arrives as it is. After a timeout the command may go on there."""
        code, out, err = self._exchange(argv, timeout_s=timeout_s, stdin=_encode(stdin))
        return Completed(code=code, out=_decode(out), err=_decode(err))

    def read(self, path: Path, *, begin: int = 0) -> bytes | None:
        """See `Host.read`."""
        command = ["env", "LC_ALL=C", "tail", "-c", f"+{begin + 1}", "--", str(path)]
        code, out, err = self._exchange(command, timeout_s=_FILE_TIMEOUT_S)
        if code == 0:
            return out
        if b"No such file or directory" in err:
            return None
        raise SlurmUnreachable(f"ssh {self.host}: cannot read {path}: {_last_line(_decode(err))}")

    def write(self, path: Path, content: str, *, mode: int) -> None:
        """See `Host.write`."""
        encoded = _encode(content)
        command = ["sh", "-c", _WRITE, "sh", str(path), f"{mode:o}", str(len(encoded))]
        code, _, err = self._exchange(command, timeout_s=_FILE_TIMEOUT_S, stdin=encoded)
        if code != 0:
            raise SlurmUnreachable(f"ssh {self.host}: cannot write {path}: {_last_line(_decode(err))}")

    def close(self) -> None:
        """End the shared connection as soon as no command uses it."""
        with contextlib.suppress(SlurmUnreachable, FileNotFoundError):
            _run([*self._ssh("-O", "stop"), "--", self._address], env=dict(os.environ), timeout_s=10)

    @property
    def _address(self) -> str:
        return f"{self.user}@{self.host}" if self.user else self.host

    def _exchange(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        """Exit code, output and error output of the command there; raises SlurmUnreachable unless it was seen to end.

        A shell's code for a signal becomes negative, as subprocess has it.
        """
        mark = secrets.token_hex(8)
        words = [*self._ssh("-o", "ControlMaster=no"), "--", self._address]
        self._connect()
        command = [*words, shlex.join(["sh", "-c", _MARKED, "sh", mark, *argv])]
        done = _run(command, env=dict(os.environ), timeout_s=timeout_s, stdin=stdin)
        ended = re.search(rb"(?s)%b(.*)%b (\d+)\n" % (mark.encode(), mark.encode()), done.stderr)
        if ended is None or int(ended[2]) != done.returncode:
            said = _decode(done.stderr).replace(mark, "").strip()
            raise SlurmUnreachable(
                f"ssh {self.host}: the connection was lost{f': {self._explain(said)}' if said else ''}"
            )
        code = done.returncode
        signalled = 128 < code <= 128 + 64
        return 128 - code if signalled else code, done.stdout.partition(mark.encode())[2], ended[1]

    def _connect(self) -> None:
        """Make sure that there is the shared connection."""
        _check_private(self.control_dir)
        path = self.socket_path
        if _is_listening(path):
            return
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_listening(path):
                return
            path.unlink(missing_ok=True)
            self._open_connection()

    def _open_connection(self) -> None:
        timeout_s = self.connect_timeout_s + _CONNECT_MARGIN_S
        command = [*self._ssh("-fNM", "-o", f"ConnectTimeout={self.connect_timeout_s}"), "--", self._address]
        with tempfile.TemporaryFile() as said:  # no pipe: the connection's process may keep it open
            try:
                done = subprocess.run(
                    command,
                    env={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},  # BatchMode does not reach a ProxyJump's ssh
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    timeout=timeout_s,
                    check=False,
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise SlurmUnreachable("ssh is not installed here; install OpenSSH's client") from error
            except subprocess.TimeoutExpired as error:
                raise SlurmUnreachable(f"ssh {self.host}: no connection within {timeout_s:.0f} s") from error
            said.seek(0)
            if done.returncode != 0:
                raise SlurmUnreachable(f"ssh {self.host}: {self._explain(_decode(said.read()))}")

    def _ssh(self, *more: str) -> list[str]:
        options = [word for name, value in _SSH_OPTIONS.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", *options, "-S", str(self.socket_path), *self._login(), *more]

    def _login(self) -> list[str]:
        port = ["-p", str(self.port)] if self.port else []
        # Without IdentitiesOnly an agent's many keys are tried first, and the server gives up.
        return [*port, *(["-i", self.identity, "-o", "IdentitiesOnly=yes"] if self.identity else [])]

    def _explain(self, said: str) -> str:
        """What ssh said, in one line, with what to do."""
        if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said:
            where = re.search(r"Offending .*key in (\S+)", said)
            return (
                "its host key is not the one that is known: somebody may be in between; ask the site, and if it "
                f"changed the key, remove the old one{f' ({where[1]})' if where else ''} and log in once by hand: "
                f"{shlex.join(['ssh', *self._login(), self._address])}"
            )
        if "Host key verification failed" in said:
            return (
                "its host key is not known here; log in once by hand and compare the fingerprint with the one that "
                f"the site publishes: {shlex.join(['ssh', *self._login(), self._address])}"
            )
        if "Permission denied" in said:
            by_hand = shlex.join(["ssh", "-fNM", "-S", str(self.socket_path), *self._login(), self._address])
            missing = re.search(r"Identity file .* not accessible: .*", said)
            return (
                f"{f'{missing[0]} ' if missing else ''}{_last_line(said)} Name a key that needs no passphrase with "
                "identity = FILE, or load it into ssh-agent; if the site asks for a password or code, open the "
                f"connection by hand: {by_hand}"
            )
        return _last_line(said)


def _check_private(folder: Path) -> None:
    """Make the directory if it is not there; raise ConfigError if somebody else could put a socket into it."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(parents=True, mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ConfigError(
            f"{folder}: expected a directory of this user with mode 0700, for ssh connections that others could use "
            "otherwise; remove it, or set TMPDIR to a directory of your own"
        )


def _is_listening(path: Path) -> bool:
    """Whether a process accepts connections on the Unix socket; a killed one leaves the file behind."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def _run(
    argv: Sequence[str], *, env: dict[str, str], timeout_s: float, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            argv,
            env=env,
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            start_new_session=True,
        )  # a session of its own: Ctrl-C must not end an sbatch that has been sent
    except subprocess.TimeoutExpired as error:
        raise SlurmUnreachable(f"{argv[0]} did not answer within {timeout_s:.0f} s") from error


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # as the environment holds what is not UTF-8


def _decode(output: bytes) -> str:
    return output.decode("utf-8", "replace")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1].strip()
