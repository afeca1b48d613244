"""The process in which `wandb` works for this one: it may hang or die, and is killed with all it started if it does.

One line of JSON each way over a socket of its own, since `wandb` prints where it likes. The key travels in the child's
environment only.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nemo_runspec.errors import MirrorError
from nemo_runspec.mirror.failures import WANDB_MISSING, explain
from nemo_runspec.mirror.helper_environment import helper_environment
from nemo_runspec.mirror.process_tree import kill_all
from nemo_runspec.mirror.scratch import LOG, make_scratch
from nemo_runspec.mirror.server import LATER, WandbServer, cancelled, no_key

Task = Callable[[dict[str, Any]], dict[str, Any]]
"""From a JSON object to a JSON object."""

_END_TIMEOUT_S = 10.0
_CHUNK_BYTES = 1 << 16
_POLL_S = 1.0

_logger = logging.getLogger(__name__)


class Helper:
    """Asks tasks of a child process, which starts at the first and again after each that failed.

    `is_cancelled` is asked every second while an answer is awaited.

    >>> with Helper(server) as helper:
    ...     helper.ask("check", {}, timeout_s=20)
    """

    def __init__(self, server: WandbServer, *, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        self._server = server
        self._is_cancelled = is_cancelled
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_child(timeout_s=_END_TIMEOUT_S if kind is None else 0.0)

    def ask(self, task: str, request: Mapping[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """The task's answer.

        Raises:
            MirrorError: the server or `wandb` refused or failed, there was no answer within `timeout_s` seconds, or
                somebody cancelled.
        """
        if self._server.api_key is None:
            raise no_key(self._server.base_url)
        child = self._child = self._child or self._start()
        try:
            answer = child.ask(
                {"task": task, "request": dict(request)}, timeout_s=timeout_s, is_cancelled=self._is_cancelled
            )
        except InterruptedError:
            self._end_child(timeout_s=0.0)
            raise cancelled(self._server.base_url) from None
        except TimeoutError:
            raise self._give_up(f"no answer within {timeout_s:g} s") from None
        except OSError as error:
            raise self._give_up(f"the helper process ended: {child.last_line() or error}") from None
        if "error" in answer:
            self._end_child(timeout_s=_END_TIMEOUT_S)  # `wandb` may not be fit for anything more
            raise MirrorError(self._without_key(answer["error"]), server_wide=answer["server_wide"])
        result: dict[str, Any] = answer["result"]
        return result

    def _start(self) -> _Child:
        try:
            return _Child(self._server)
        except OSError as error:
            raise MirrorError(
                f"the helper process for W&B cannot be started: {error}; make room, {LATER}", server_wide=True
            ) from error

    def _give_up(self, reason: str) -> MirrorError:
        self._end_child(timeout_s=0.0)
        return MirrorError(self._without_key(f"W&B server {self._server.base_url}: {reason}; wait, {LATER}"))

    def _end_child(self, *, timeout_s: float) -> None:
        if self._child is not None:
            self._child.end(timeout_s=timeout_s)
            self._child = None

    def _without_key(self, text: str) -> str:
        key = self._server.api_key.get_secret_value() if self._server.api_key else ""
        return text.replace(key, "***") if key else text


class _Child:
    """A started child with its directory, which goes with it."""

    def __init__(self, server: WandbServer) -> None:
        self._directory, log = make_scratch()
        self._socket, theirs = socket.socketpair()
        with theirs, log:
            self._process = subprocess.Popen(
                # -P: nothing in the current directory may pass for a module.
                [sys.executable, "-P", "-m", "nemo_runspec.mirror.helper", str(theirs.fileno())],
                env=helper_environment(os.environ, server=server, directory=self._directory),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ask(self, question: Mapping[str, Any], *, timeout_s: float, is_cancelled: Callable[[], bool]) -> dict[str, Any]:
        """The answer.

        Raises:
            InterruptedError: somebody cancelled.
            TimeoutError: it took longer.
            ConnectionError: the child has ended.
        """
        deadline = time.monotonic() + timeout_s
        self._socket.settimeout(timeout_s)
        self._socket.sendall(json.dumps(question).encode() + b"\n")
        received = bytearray()
        while not received.endswith(b"\n"):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            if is_cancelled():
                raise InterruptedError
            self._socket.settimeout(min(left_s, _POLL_S))
            try:
                chunk = self._socket.recv(_CHUNK_BYTES)
            except TimeoutError:
                continue
            if not chunk:
                raise ConnectionResetError(f"exit code {self._process.wait()}")
            received += chunk
        answer: dict[str, Any] = json.loads(received)
        return answer

    def last_line(self) -> str:
        """What it printed last, usually the reason of its end."""
        with suppress(OSError):
            lines = Path(self._directory, LOG).read_text(encoding="utf-8", errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""

    def end(self, *, timeout_s: float) -> None:
        """Let it end by itself within `timeout_s` seconds, else kill it and all that it started."""
        self._socket.close()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            _logger.debug("killing helper process %s", self._process.pid)
        finally:
            kill_all(self._process.pid, mark=str(self._directory))
            self._process.wait()
            shutil.rmtree(self._directory, ignore_errors=True)


def main() -> None:
    """The child: answer until the other end of the socket is closed, then leave nothing behind."""
    with (
        suppress(BrokenPipeError, ConnectionResetError),
        socket.socket(fileno=int(sys.argv[1])) as connection,
        connection.makefile("rb") as questions,
    ):
        os.set_inheritable(connection.fileno(), False)
        for line in questions:
            connection.sendall(json.dumps(_answer(json.loads(line))).encode() + b"\n")
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()
    # Whoever started this does it too, unless it was killed.
    shutil.rmtree(os.environ["WANDB_DIR"], ignore_errors=True)


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": _find_task(question["task"])(question["request"])}
    except ModuleNotFoundError as error:
        if error.name != "wandb":
            raise
        return {"error": WANDB_MISSING, "server_wide": True}
    except Exception as error:
        logging.exception("task %s failed", question["task"])
        explained = error if isinstance(error, MirrorError) else explain(error)
        return {"error": str(explained), "server_wide": explained.server_wide}


def _find_task(name: str) -> Task:
    from nemo_runspec.mirror import failures, foreign, session  # nobody who only asks needs them

    tasks: dict[str, Task] = {
        "check": failures.check,
        "log": session.log_version,
        "alias": session.set_alias,
        "fetch": foreign.fetch,
    }
    return tasks[name]


if __name__ == "__main__":
    main()
