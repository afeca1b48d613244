"""How the command ends where it is not a plain refusal: with a traceback, by Ctrl-C, into a closed pipe."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bad_input.row import HERE, run_record
from nemo_runspec.errors import ConfigNotFound
from nemotron.cli.app import main

NEMOTRON = (sys.executable, "-c", "import sys; from nemotron.cli.app import main; sys.exit(main())")
RUN = "20260101-000000-aaaaaaaa"


@pytest.mark.parametrize("argv", [["--debug", "nano3", "sft", "-c", "nope"], ["nano3", "sft", "-c", "nope", "--debug"]])
@pytest.mark.usefixtures("project")
def test_debug_shows_where_a_refusal_comes_from(argv: list[str]) -> None:
    with pytest.raises(ConfigNotFound, match="config 'nope'"):
        main(argv)


@pytest.mark.usefixtures("project")
def test_debug_after_the_dashes_is_the_scripts() -> None:
    assert main(["nano3", "sft", "-c", "nope", "--", "--debug"]) == 2


@pytest.fixture
def driven_run(project: Path) -> Iterator[Path]:
    """The files of a run that this process drives, and its log."""
    runs, work = project / ".nemotron" / "runs", project / "work"
    (runs / f"{RUN}.stages").mkdir(parents=True)
    work.mkdir()
    (work / "log.txt").write_text("hello\n")
    (runs / f"{RUN}.stages" / "data_prep").symlink_to(work)
    (runs / f"{RUN}.json").write_text(run_record(RUN).replace(HERE, str(project)))
    with (runs / f"{RUN}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield runs


@pytest.mark.usefixtures("driven_run")
def test_ctrl_c_ends_with_130_and_a_line() -> None:
    with subprocess.Popen(
        [*NEMOTRON, "runs", "logs", "-f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert first == "data_prep | hello\n"
    assert (process.returncode, err) == (130, "interrupted\n")


def test_a_run_that_goes_on_is_not_taken_up_again(driven_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(driven_run.rglob("*"))
    assert main(["runs", "retry", RUN]) == 2
    assert f"error: run {RUN} goes on (?:?); follow it with nemotron runs attach {RUN}" in capsys.readouterr().err
    assert sorted(driven_run.rglob("*")) == before


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("command", ["--help", "nano3 sft --help", "env list --json"])
def test_a_closed_pipe_is_no_noise(command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*NEMOTRON, *command.split()], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("project")
def test_the_first_line_of_the_help_is_enough() -> None:
    shell = f"{sys.executable} -c '{NEMOTRON[2]}' --help | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", shell], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: nemotron")


@pytest.fixture
def read_only(project: Path) -> Iterator[Path]:
    """A directory to which nobody can write, root neither."""
    folder = project / "read-only"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], check=False)
    folder.chmod(0o555) if mounted.returncode and os.geteuid() else None
    if mounted.returncode and not os.geteuid():
        pytest.skip(f"root writes to everything here, and cannot mount: {os.strerror(errno.EPERM)}")
    yield folder
    if not mounted.returncode:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_store_that_cannot_be_written_is_refused_before_anything_starts(
    project: Path, read_only: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEMOTRON_STORE", str(read_only / "store"))
    assert main(["nano3", "data", "prep", "pretrain", "-c", "tiny"]) == 2
    said = capsys.readouterr().err
    assert f"artifact store {read_only}/store: {read_only} cannot be written to; make it a directory" in said
    assert "set NEMOTRON_STORE" in said
    assert not (project / ".nemotron").exists()


def test_an_error_of_the_system_is_a_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / ".nemotron" / "runs").mkdir(parents=True)
    (project / ".nemotron" / "runs" / f"{RUN}.json").write_text(run_record(RUN))
    (project / ".nemotron" / "runs" / f"{RUN}.cancel").mkdir()
    (project / ".nemotron" / "runs" / f"{RUN}.lock").mkdir()
    assert main(["runs", "list"]) == 1
    assert capsys.readouterr().err.startswith("error: [Errno 21] Is a directory: ")
