import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nemo_runspec.artifacts import ArtifactStore, Producer
from nemo_runspec.errors import ArtifactNotFound, ConfigError
from nemo_runspec.script import load_train_config, run_script

BODY = """
from pathlib import Path
from nemo_runspec.errors import DataError
from nemo_runspec.script import run_script
def main(config_path: Path) -> None:
{body}
run_script(main)
"""


def run(folder: Path, body: str, *args: str) -> subprocess.CompletedProcess[str]:
    script = folder / "train.py"
    script.write_text(BODY.format(body=f"    {body}"))
    return subprocess.run([sys.executable, str(script), *args], capture_output=True, text=True, check=False)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    root = tmp_path / "store"
    monkeypatch.setenv("NEMOTRON_STORE", str(root))
    store = ArtifactStore(root)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("hello")
    producer = Producer(run_id="r", stage="s", fingerprint="f")
    store.publish(
        tmp_path / "out", name="m", type="ModelArtifact", metadata={"step": 7, "loss": 0.5}, producer=producer
    )
    return store


def save(folder: Path, text: str) -> Path:
    path = folder / "train.yaml"
    path.write_text(text)
    return path


def test_an_error_for_a_person_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = run(tmp_path, "raise DataError('a.txt: empty\\nfile')", "--config", "x")
    assert (done.returncode, done.stderr) == (2, "error: a.txt: empty file\n")


def test_a_stop_on_request_is_one_line_and_exit_code_75(tmp_path: Path) -> None:
    body = "from nemo_runspec.stop import StopRequested; raise StopRequested(7)"
    done = run(tmp_path, body, "--config", "x")
    assert (done.returncode, done.stderr) == (75, "stopped on request after step 7; start again to go on\n")


def test_another_error_keeps_its_traceback(tmp_path: Path) -> None:
    done = run(tmp_path, "raise KeyError('x')", "--config", "x")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_an_unknown_argument_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "pass", "--config", "x", "--confg", "y")
    assert done.returncode == 2
    assert "unrecognized arguments: --confg" in done.stderr


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def main(_config_path: Path) -> None:
        raise OSError(number, os.strerror(number), "/big/file")

    monkeypatch.setattr(sys, "argv", ["train.py", "--config", "x"])
    with pytest.raises(SystemExit, match="2"):
        run_script(main)
    assert capsys.readouterr().err.startswith("error: disk full at /big/file")


def test_sigterm_runs_finally_blocks_and_exits_with_143(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    body = """
    import time
    try:
        (config_path.parent / "ready").touch()
        time.sleep(30)
    finally:
        (config_path.parent / "cleaned").touch()
"""
    script.write_text(BODY.format(body=body))
    process = subprocess.Popen([sys.executable, str(script), "--config", str(tmp_path / "c.yaml")])
    wait_for((tmp_path / "ready").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 143
    assert (tmp_path / "cleaned").exists()


def test_run_script_gives_the_signal_handler_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", "x"])
    run_script(lambda _: None)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.usefixtures("store")
def test_artifact_fields_keep_their_type(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        "run: {model: 'm:v0'}\ndir: '${art:model}'\nat: '${art:model,path}/a.txt'\nstep: ${art:model,iteration}\n"
        "loss: ${art:model,loss}\nversion: ${art:model,version}\nkind: ${art:model,type}\n",
    )
    config = load_train_config(path)
    assert (config["step"], config["loss"]) == (7, 0.5)
    assert (config["version"], config["kind"]) == ("v0", "ModelArtifact")
    assert Path(config["at"]).read_text() == "hello"
    assert (Path(config["dir"]) / "a.txt").is_file()


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("${art:modle}", "run.modle is not set; have: model. Did you mean 'model'"),
        ("${art:model,lss}", "no field 'lss'; allowed: .*Did you mean 'loss'"),
        ("${oc.env:NO_SUCH_VARIABLE}", "x: .*NO_SUCH_VARIABLE"),
        ("???", "x: "),
    ],
)
def test_what_cannot_be_resolved_is_refused_by_name(tmp_path: Path, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_train_config(save(tmp_path, f"run: {{model: 'm:v0'}}\nx: '{value}'\n"))


@pytest.mark.usefixtures("store")
def test_a_missing_artifact_is_refused_by_the_store(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFound, match="v9"):
        load_train_config(save(tmp_path, "run: {model: 'm:v9'}\nx: '${art:model}'\n"))


def test_a_worker_of_torchrun_ends_when_torchrun_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    body = """
    import os, time
    (config_path.parent / f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
    time.sleep(60)
"""
    script.write_text(BODY.format(body=body))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.Popen([*launcher, str(script), "--config", str(tmp_path / "c.yaml")])
    wait_for(lambda: len([path for path in tmp_path.glob("pid-*") if path.read_text()]) == 2)
    process.kill()
    process.wait(timeout=20)
    pids = [int(path.read_text()) for path in tmp_path.glob("pid-*")]
    wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids))


def wait_for(ready: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)
