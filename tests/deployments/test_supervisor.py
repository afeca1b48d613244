"""Programs are kept alive; here they are shells."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from team_server import wait_until

from nemo_runspec.errors import RequirementError
from nemotron.deployments import supervisor as supervising
from nemotron.deployments.background import owned, owner, stop_owner
from nemotron.deployments.program import Program
from nemotron.deployments.supervisor import Supervisor, limit_logs, read_status

NewSupervisor = Callable[..., Supervisor]
OWNER = """\
import sys, time
from pathlib import Path
from nemotron.deployments.background import owned
with owned(Path(sys.argv[1])):
    print("owned", flush=True)
    time.sleep(60)
"""


def program(folder: Path, script: str, *, name: str = "shell", **settings: object) -> Program:
    return Program(name=name, command=["/bin/sh", "-c", script], env=dict(os.environ), folder=folder, **settings)  # type: ignore[arg-type]


@pytest.fixture
def new_supervisor(tmp_path: Path) -> Iterator[Callable[..., Supervisor]]:
    """Makes a supervisor of programs, which end with the test."""
    (tmp_path / "logs").mkdir()
    made: list[Supervisor] = []

    def make(*programs: Program) -> Supervisor:
        made.append(Supervisor(tmp_path, programs, to_files=True))
        return made[-1]

    yield make
    for kept in made[0].kept:
        kept.end()


def look_until(supervisor: Supervisor, num_starts: int) -> float:
    """Have it look until its first program was started so often; the seconds that took."""
    begin = time.monotonic()
    wait_until(lambda: supervisor.look() is not None and supervisor.kept[0].num_starts == num_starts, timeout_s=20)
    return time.monotonic() - begin


def test_a_program_that_ends_at_once_is_started_again_after_longer_and_longer_times(
    tmp_path: Path, new_supervisor: NewSupervisor
) -> None:
    supervisor = new_supervisor(program(tmp_path, "echo again; exit 3"))
    assert look_until(supervisor, 2) >= 0.5
    assert look_until(supervisor, 3) >= 1.0
    assert supervisor.kept[0].last_exit == 3
    assert (tmp_path / "logs" / "shell.log").read_text().startswith("again\nagain\n")


def test_a_program_that_cannot_be_started_is_tried_again(tmp_path: Path, new_supervisor: NewSupervisor) -> None:
    missing = Program(name="missing", command=["/no/such/program"], env={}, folder=tmp_path)
    supervisor = new_supervisor(missing)
    look_until(supervisor, 2)
    assert supervisor.kept[0].last_exit == 127


def test_a_program_is_started_when_the_one_before_it_is_ready(tmp_path: Path, new_supervisor: NewSupervisor) -> None:
    ready = tmp_path / "ready"
    first = program(tmp_path, "sleep 30", name="first", is_ready=ready.exists)
    supervisor = new_supervisor(first, program(tmp_path, "sleep 30", name="second"))
    supervisor.look()
    supervisor.look()
    assert [kept.num_starts for kept in supervisor.kept] == [1, 0]
    ready.touch()
    supervisor.look()
    assert [kept.num_starts for kept in supervisor.kept] == [1, 1]


def test_a_program_that_ignores_the_signal_is_killed_after_its_time(
    tmp_path: Path, new_supervisor: NewSupervisor
) -> None:
    stubborn = program(tmp_path, "trap '' TERM; echo ready; while :; do sleep 0.1; done", grace_s=0.5)
    supervisor = new_supervisor(stubborn)
    supervisor.look()
    wait_until((tmp_path / "logs" / "shell.log").read_text)
    process = supervisor.kept[0].process
    supervisor.kept[0].end()
    assert process is not None
    assert process.returncode == -signal.SIGKILL


def test_a_log_that_has_grown_long_is_moved_away_while_it_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "MAX_LOG_BYTES", 5)
    path = tmp_path / "shell.log"
    with path.open("ab", buffering=0) as log:
        log.write(b"long line\n")
        limit_logs(tmp_path)
        log.write(b"new\n")
    assert (path.read_bytes(), (tmp_path / "shell.log.1").read_bytes()) == (b"new\n", b"long line\n")


def test_a_folder_has_one_owner_who_is_named_and_can_be_stopped(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", OWNER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "owned\n"
    with pytest.raises(RequirementError, match=f"process {other.pid} on .* works on it"), owned(tmp_path):
        pass
    assert stop_owner(tmp_path, timeout_s=10) is True
    assert owner(tmp_path) is None
    assert stop_owner(tmp_path, timeout_s=10) is False
    assert other.wait() == -signal.SIGTERM
    other.stdout.close()


def test_an_owner_that_does_not_say_who_it_is_counts_as_none_after_a_moment(tmp_path: Path) -> None:
    with (tmp_path / "owner.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert owner(tmp_path) is None


def test_without_a_supervisor_there_is_no_status(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('[{"name": "old"}]')
    assert read_status(tmp_path) == []
