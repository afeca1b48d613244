"""`python -m nemo_runspec.jobs.child PARENT_PID COMMAND…`: become COMMAND, and end when PARENT_PID does (Linux)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # Linux: prctl(2); kept across execve of a program without set-user-ID


def main(argv: list[str]) -> None:
    """Replace this process by the command."""
    end_with_parent()
    if os.getppid() != int(argv[0]):  # it died before the line above
        sys.exit(143)
    os.execvp(argv[1], argv[1:])


def end_with_parent(signum: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send this process the signal when the thread that started it ends (Linux; nothing elsewhere)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signum)


if __name__ == "__main__":
    main(sys.argv[1:])
