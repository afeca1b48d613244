"""A PostgreSQL cluster of one's own in a directory: made once, run as a program, reached by a socket and a password.

It listens on no network address. As root the cluster belongs to the user `postgres`, because PostgreSQL refuses root.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from nemo_runspec.errors import RequirementError
from nemotron.deployments.postgres_programs import find_programs, program_environment
from nemotron.deployments.program import Program, user_options

DATABASE = "prefect"
USER = "nemotron"
UNPRIVILEGED_USER = "postgres"
MAX_SOCKET_PATH = 107  # unix(7): sun_path has 108 bytes
SOCKET_NAME = ".s.PGSQL.5432"
MAX_CONNECTIONS = 200


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The cluster in `folder`; `programs` is where this machine has PostgreSQL's programs of its version."""

    folder: Path
    programs: Path
    password: str
    user: str | None

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.folder / "data"

    @property
    def socket_folder(self) -> Path:
        """Where its socket is: in the folder, or under the temporary directory where that path would be too long."""
        inside = self.folder / "run"
        if len(os.fsencode(inside / SOCKET_NAME)) <= MAX_SOCKET_PATH:
            return inside
        return Path(tempfile.gettempdir(), f"nemotron-{hashlib.sha256(os.fsencode(inside)).hexdigest()[:16]}")

    @property
    def url(self) -> str:
        """For libpq's programs, without the password."""
        return f"postgresql://{USER}@/{DATABASE}?host={quote(str(self.socket_folder), safe='')}"

    @property
    def async_url(self) -> str:
        """For Prefect, with the password."""
        host = quote(str(self.socket_folder), safe="")
        return f"postgresql+asyncpg://{USER}:{quote(self.password, safe='')}@/{DATABASE}?host={host}"

    def prepare(self) -> None:
        """Make the cluster and its database unless they are there.

        Raises:
            RequirementError: PostgreSQL says no.
        """
        self._make(self.folder)
        self._make(self.socket_folder)
        if self.data.exists():
            return
        partial = self.folder / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        password_file = self.folder / "password.partial"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password, encoding="utf-8")
        self._give_away(password_file)
        try:
            self._initialise(partial, password_file)
        finally:
            password_file.unlink()
        partial.rename(self.data)

    def program(self) -> Program:
        """The server, to be kept alive."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_folder),
            "max_connections": str(MAX_CONNECTIONS),
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return Program(
            name="postgres",
            command=[str(self.programs / "postgres"), "-D", str(self.data), *options],
            env=program_environment(),
            folder=self.folder,
            user=self.user,
            is_ready=self.answers,
            # postgres(1): SIGTERM waits for all clients to leave, SIGINT sends them away.
            ending=lambda _process: signal.SIGINT,
            orphaned=signal.SIGINT,
            grace_s=60.0,
        )

    def answers(self) -> bool:
        """Whether it takes connections now."""
        command = [str(self.programs / "pg_isready"), "--quiet", "--host", str(self.socket_folder), "--timeout=5"]
        return subprocess.run(command, env=program_environment(), check=False).returncode == 0

    def _initialise(self, data: Path, password_file: Path) -> None:
        initdb = ["initdb", "--pgdata", str(data), "--username", USER, "--pwfile", str(password_file)]
        self._run([*initdb, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"])
        self._run(["postgres", "--single", "-D", str(data), "postgres"], said=f"CREATE DATABASE {DATABASE}\n")

    def _run(self, command: list[str], *, said: str = "") -> None:
        done = subprocess.run(
            [str(self.programs / command[0]), *command[1:]],
            input=said,
            cwd=self.folder,
            env=program_environment(),
            capture_output=True,
            text=True,
            check=False,
            **user_options(self.user),
        )
        if done.returncode:
            raise RequirementError(f"{command[0]} in {self.folder}: {' '.join(done.stderr.split())[-1000:]}")

    def _make(self, path: Path) -> None:
        """Have a directory for the cluster's user alone; where all may write, somebody else may have made it."""
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            found, owner = path.stat(), pwd.getpwnam(self.user).pw_uid if self.user else os.geteuid()
            if found.st_uid != owner or found.st_mode & 0o022:
                raise RequirementError(
                    f"{path}: belongs to another user, or others may write in it; remove it"
                ) from None
        else:
            self._give_away(path)

    def _give_away(self, path: Path) -> None:
        if self.user is not None:
            entry = pwd.getpwnam(self.user)
            os.chown(path, entry.pw_uid, entry.pw_gid)


def find_cluster(folder: Path, password: str) -> Cluster:
    """The cluster of that folder, made or not, with this machine's programs for it.

    Raises:
        RequirementError: no PostgreSQL of its version; as root, no user to run it, or one who cannot enter the folder.
    """
    user = _unprivileged_user(folder) if os.geteuid() == 0 else None
    version_file = folder / "data" / "PG_VERSION"
    version = version_file.read_text(encoding="ascii").strip() if version_file.exists() else None
    return Cluster(folder=folder, programs=find_programs(version), password=password, user=user)


def _unprivileged_user(folder: Path) -> str:
    try:
        entry = pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        raise RequirementError(
            f"PostgreSQL does not run as root and there is no user {UNPRIVILEGED_USER!r}; run this as another user, or "
            "give --database-url"
        ) from None
    for parent in reversed(folder.parents):
        if parent.exists() and not _may_enter(parent, entry):
            raise RequirementError(
                f"PostgreSQL does not run as root, and user {UNPRIVILEGED_USER!r} may not enter {parent}; give --dir "
                "another place, as /srv/nemotron, or run this as another user"
            )
    return UNPRIVILEGED_USER


def _may_enter(path: Path, entry: pwd.struct_passwd) -> bool:
    found = path.stat()
    if found.st_uid == entry.pw_uid:
        return bool(found.st_mode & 0o100)
    return bool(found.st_mode & (0o010 if found.st_gid == entry.pw_gid else 0o001))
