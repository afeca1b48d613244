"""One program that a supervisor keeps alive: how it is started, noticed to have ended, and ended. Knows no other."""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_runspec.jobs.child import end_with_parent

FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 30.0
SOUND_AFTER_S = 10.0
"""After a life of so many seconds a program is started again at once."""
CANNOT_START = 127  # as a shell says it
logger = logging.getLogger(__name__)


def always() -> bool:
    """A program of which nothing is asked but to run is ready at once."""
    return True


def with_sigterm(process: subprocess.Popen[bytes]) -> signal.Signals:  # noqa: ARG001
    """The usual signal to end a program with."""
    return signal.SIGTERM


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run, in `folder`, and how to treat it.

    `is_ready`: the programs after it may start. `ending` chooses the signal to end it with; after `grace_s` seconds
    SIGKILL follows. `orphaned` is what the kernel sends it when the supervisor is killed (Linux). `user` needs root.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    folder: Path
    user: str | None = None
    inherited_fds: tuple[int, ...] = ()
    is_ready: Callable[[], bool] = always
    ending: Callable[[subprocess.Popen[bytes]], signal.Signals] = with_sigterm
    orphaned: signal.Signals = signal.SIGTERM
    grace_s: float = 20.0

    def start(self, log_path: Path | None) -> subprocess.Popen[bytes]:
        """Start it in a session of its own, its output appended to the log, or where this process's goes.

        Raises:
            OSError, SubprocessError: it cannot be started.
        """
        with contextlib.ExitStack() as scope:
            log = scope.enter_context(log_path.open("ab")) if log_path else None
            return subprocess.Popen(
                self.command,
                env=dict(self.env),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT if log else None,
                start_new_session=True,
                pass_fds=self.inherited_fds,
                preexec_fn=_dying_with(os.getpid(), self.orphaned),
                **user_options(self.user),
            )

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End it and wait for that."""
        process.send_signal(self.ending(process))
        try:
            process.wait(timeout=self.grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def user_options(user: str | None) -> dict[str, Any]:
    """What `subprocess` takes to run a program as that user; nothing without one."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _dying_with(parent: int, signum: signal.Signals) -> Callable[[], None]:
    """To be called in the child after its user was changed: that would undo it."""

    def prepare() -> None:
        end_with_parent(signum)
        if os.getppid() != parent:  # it died before the line above
            os._exit(128 + signum)

    return prepare


@dataclass(kw_only=True)
class KeptProgram:
    """A program and the process that it is now, if it is one."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    is_ready: bool = False
    num_starts: int = 0
    last_exit: int | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    delay_s: float = 0.0

    def look(self, log_path: Path | None, *, may_start: bool) -> bool:
        """Note whether it has ended or become ready; start it where its turn has come. Whether anything changed."""
        changed = self._note_end()
        if self.process is None and may_start and time.monotonic() >= self.start_at:
            self._start(log_path)
            changed = True
        if self.process is not None and not self.is_ready and self.program.is_ready():
            self.is_ready = changed = True
        return changed

    def end(self) -> None:
        """End it, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.program.end(self.process)
            logger.info("%s: ended", self.program.name)

    def describe(self) -> dict[str, Any]:
        """Its state, for `status.json`."""
        pid = self.process.pid if self.process is not None and self.process.poll() is None else None
        return {
            "name": self.program.name,
            "pid": pid,
            "ready": pid is not None and self.is_ready,
            "starts": self.num_starts,
            "last_exit": self.last_exit,
        }

    def _start(self, log_path: Path | None) -> None:
        self.num_starts += 1
        self.started_at = time.monotonic()
        try:
            self.process = self.program.start(log_path)
            logger.info("%s: started, pid %d", self.program.name, self.process.pid)
        except (OSError, subprocess.SubprocessError) as error:
            logger.error("%s: cannot be started: %s", self.program.name, error)
            self._wait_for_next(CANNOT_START)

    def _note_end(self) -> bool:
        if self.process is None or self.process.poll() is None:
            return False
        self._wait_for_next(self.process.returncode)
        return True

    def _wait_for_next(self, exit_code: int) -> None:
        lived_s = time.monotonic() - self.started_at
        longer_s = min(LONGEST_DELAY_S, max(FIRST_DELAY_S, 2 * self.delay_s))
        self.delay_s = 0.0 if lived_s >= SOUND_AFTER_S else longer_s
        self.start_at = time.monotonic() + self.delay_s
        self.last_exit, self.process, self.is_ready = exit_code, None, False
        logger.warning(
            "%s: ended with %d after %.0f s; again in %.1f s", self.program.name, exit_code, lived_s, self.delay_s
        )
