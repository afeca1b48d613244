"""The process in which `wandb` works: whatever it does there, the one that asks gets an answer or an error in time."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from metrics_stage import wait_for
from pydantic import SecretStr
from wandb_server.server import WandbServerProcess

from nemo_runspec.errors import MirrorError
from nemo_runspec.mirror.helper import Helper
from nemo_runspec.mirror.helper_environment import helper_environment
from nemo_runspec.mirror.server import WandbServer

KEY = "s3cr3t" * 8
NOWHERE = WandbServer(base_url="http://127.0.0.1:1", api_key=SecretStr(KEY))
TIMEOUT_S = 60.0


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process's temporary files go."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give the helper a module `wandb` of this text instead of the real one."""

    def write(text: str) -> None:
        (tmp_path / "modules" / "wandb").mkdir(parents=True, exist_ok=True)
        (tmp_path / "modules" / "wandb" / "__init__.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))

    return write


@pytest.fixture
def helper(scratch: Path, wandb_double: WandbServerProcess) -> Iterator[Helper]:
    assert scratch.is_dir()
    with Helper(WandbServer(base_url=wandb_double.url, api_key=SecretStr(wandb_double.key))) as helper:
        yield helper


def processes_of(folder: Path) -> list[psutil.Process]:
    """Those that have it in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            found += [process] if str(folder) in process.environ().get("WANDB_DIR", "") else []
        except psutil.Error:
            continue
    return found


def test_what_wandb_prints_is_no_answer(helper: Helper, install: Callable[[str], None]) -> None:
    install("import sys; print('{}'); print('[]', file=sys.stderr); __version__ = 'fake'")
    assert helper.ask("check", {}, timeout_s=TIMEOUT_S) == {"wandb": "fake"}


def test_a_helper_that_hangs_is_killed_with_all_that_it_started(
    helper: Helper, install: Callable[[str], None], scratch: Path
) -> None:
    install(
        "import subprocess, time\n"
        "subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "print('started', flush=True)\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(MirrorError, match=r"^W&B server http\S+: no answer within 3 s; wait, then run nemotron artif"):
        helper.ask("check", {}, timeout_s=3)
    assert processes_of(scratch) == []
    assert list(scratch.iterdir()) == []


def test_a_helper_that_dies_is_told_with_its_last_words(helper: Helper, install: Callable[[str], None]) -> None:
    install("import os; print('Bus error in libgomp', flush=True); os._exit(7)")
    with pytest.raises(MirrorError, match=r": the helper process ended: Bus error in libgomp; wait, then run nemotron"):
        helper.ask("check", {}, timeout_s=TIMEOUT_S)


def test_a_helper_that_dies_without_a_word_is_told_with_its_exit_code(
    helper: Helper, install: Callable[[str], None]
) -> None:
    install("import os; os._exit(7)")
    with pytest.raises(MirrorError, match=r": the helper process ended: exit code 7; wait, then"):
        helper.ask("check", {}, timeout_s=TIMEOUT_S)


def test_the_next_question_after_a_death_gets_a_new_helper(helper: Helper, install: Callable[[str], None]) -> None:
    install("import os; os._exit(7)")
    with pytest.raises(MirrorError):
        helper.ask("check", {}, timeout_s=TIMEOUT_S)
    install("__version__ = 'fake'")
    assert helper.ask("check", {}, timeout_s=TIMEOUT_S) == {"wandb": "fake"}


def test_a_missing_wandb_is_told_with_how_to_install_it(helper: Helper, install: Callable[[str], None]) -> None:
    install("raise ModuleNotFoundError(\"No module named 'wandb'\", name='wandb')")
    with pytest.raises(MirrorError) as caught:
        helper.ask("check", {}, timeout_s=TIMEOUT_S)
    assert str(caught.value) == (
        "W&B needs the Python package wandb, which is not installed here; install it with "
        "pip install 'nemotron-flows[wandb]', then run nemotron artifacts sync"
    )
    assert caught.value.server_wide


def test_a_server_that_is_not_there_is_told_without_the_key(scratch: Path) -> None:
    with Helper(NOWHERE) as helper, pytest.raises(MirrorError) as caught:
        helper.ask("check", {}, timeout_s=TIMEOUT_S)
    assert str(caught.value).startswith("W&B http://127.0.0.1:1 does not answer: ")
    assert KEY not in str(caught.value)
    assert caught.value.server_wide
    assert list(scratch.iterdir()) == []


def test_a_helper_that_cannot_be_started_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "full"))
    with (
        Helper(NOWHERE) as helper,
        pytest.raises(MirrorError, match=r"^the helper process for W&B cannot be started: "),
    ):
        helper.ask("check", {}, timeout_s=TIMEOUT_S)


def test_no_key_in_any_last_words(install: Callable[[str], None], scratch: Path) -> None:
    install("import os; print('key', os.environ['WANDB_API_KEY'], flush=True); os._exit(1)")
    with Helper(NOWHERE) as helper, pytest.raises(MirrorError, match=r"ended: key \*\*\*; wait"):
        helper.ask("check", {}, timeout_s=TIMEOUT_S)
    assert list(scratch.iterdir()) == []


def test_the_key_is_in_no_command_line(helper: Helper, scratch: Path, wandb_double: WandbServerProcess) -> None:
    helper.ask("check", {}, timeout_s=TIMEOUT_S)
    (process,) = processes_of(scratch)
    assert wandb_double.key not in " ".join(process.cmdline())
    assert process.environ()["WANDB_API_KEY"] == wandb_double.key


def test_settings_of_this_process_lead_the_helper_nowhere_else(tmp_path: Path) -> None:
    ours = {
        "WANDB_MODE": "offline",
        "WANDB_RUN_ID": "other",
        "WANDB_PROJECT": "other",
        "WANDB_API_KEY": "other",
        "WANDB_BASE_URL": "http://other",
        "WANDB_HTTPS_PROXY": "http://proxy",
        "HOME": "/home/me",
        "PYTHONPATH": "/mine",
    }
    environment = helper_environment(ours, server=NOWHERE, directory=tmp_path)
    assert environment["WANDB_MODE"] == "online"
    assert (environment["WANDB_BASE_URL"], environment["WANDB_API_KEY"]) == (NOWHERE.base_url, KEY)
    assert (environment["WANDB_HTTPS_PROXY"], environment["HOME"]) == ("http://proxy", "/home/me")
    assert environment["WANDB_DIR"] == environment["WANDB_DATA_DIR"] == environment["WANDB_CACHE_DIR"] == str(tmp_path)
    assert "WANDB_RUN_ID" not in environment
    assert "WANDB_PROJECT" not in environment
    assert environment["PYTHONPATH"].endswith(":/mine")


def test_a_helper_whose_master_was_killed_ends_and_leaves_nothing(
    tmp_path: Path, wandb_double: WandbServerProcess
) -> None:
    script = (
        "import os, signal\n"
        "from nemo_runspec.mirror.helper import Helper\n"
        "from nemo_runspec.mirror.server import WandbServer\n"
        "helper = Helper(WandbServer.from_environment())\n"
        "helper.ask('check', {}, timeout_s=60)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, **wandb_double.env, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=False, timeout=TIMEOUT_S)
    assert done.returncode == -signal.SIGKILL
    wait_for(lambda: not list(tmp_path.iterdir()))
    wait_for(lambda: not processes_of(tmp_path))


def test_a_cancel_kills_the_helper_within_seconds(scratch: Path, wandb_double: WandbServerProcess) -> None:
    server = WandbServer(base_url=wandb_double.url, api_key=SecretStr(wandb_double.key))
    wandb_double.fault(path="/graphql", delay_s=600)
    cancel = threading.Event()
    threading.Timer(2.0, cancel.set).start()
    with Helper(server, is_cancelled=cancel.is_set) as helper, pytest.raises(MirrorError) as caught:
        helper.ask("check", {}, timeout_s=TIMEOUT_S)
    assert str(caught.value) == f"W&B server {server.base_url}: cancelled; run nemotron artifacts sync"
    assert caught.value.server_wide
    assert processes_of(scratch) == []
    assert list(scratch.iterdir()) == []


def test_an_interrupt_kills_the_helper_at_once(scratch: Path, wandb_double: WandbServerProcess) -> None:
    server = WandbServer(base_url=wandb_double.url, api_key=SecretStr(wandb_double.key))
    wandb_double.fault(path="/graphql", delay_s=600)
    main = threading.get_ident()
    threading.Timer(2.0, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt), Helper(server) as helper:
        helper.ask("check", {}, timeout_s=TIMEOUT_S)
    assert processes_of(scratch) == []
    assert list(scratch.iterdir()) == []
