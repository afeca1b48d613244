import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from nemotron.cli.doctor import doctor
from nemotron.cli.installation_check import is_allowed, judge_extra
from nemotron.cli.project_check import file_system

app = typer.Typer()
app.command()(doctor)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "env.toml").write_text('[two]\nnproc_per_node = 2\n[lab]\nexecutor = "slurm"\n')
    monkeypatch.chdir(folder)
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "NEMOTRON_ENV_FILE", "NEMOTRON_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    return folder


def run(*args: str) -> Result:
    return CliRunner().invoke(app, list(args))


def checks() -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(run("--json").stdout)["checks"]}


def test_a_project_in_order_is(project: Path) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    found = checks()
    assert [name for name, check in found.items() if check["outcome"] == "failed"] == []
    assert found["project"]["said"] == f"{project}: it holds env.toml"
    assert found["profile two"]["said"] == "valid, local"
    assert found["profile lab"]["said"] == "valid, slurm; nemotron env check lab tries it"
    assert found["Prefect"]["said"] == "embedded: no API is configured"
    assert [path.name for path in project.iterdir()] == ["env.toml"]


def test_each_profile_that_cannot_be_used_is_named(project: Path) -> None:
    (project / "env.toml").write_text('[a]\nnode = 2\n[b]\nextends = "x"\n[c]\nexecutor = "lepton"\n[d]\n')
    found = checks()
    assert found["profile a"]["said"].startswith("node = 2: no such field. Did you mean 'nodes'?")
    assert "extends 'x', which is not found" in found["profile b"]["said"]
    assert found["profile c"]["outcome"] == "warning"
    assert found["profile d"]["outcome"] == "ok"
    assert run().exit_code == 1


def test_a_broken_env_toml_is_a_failed_check_and_the_rest_goes_on(project: Path) -> None:
    (project / "env.toml").write_text("[a\n")
    found = checks()
    assert "bad TOML" in found["env.toml"]["said"]
    assert "Prefect" in found


@pytest.mark.usefixtures("project")
def test_a_server_that_does_not_answer_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    found = checks()["Prefect"]
    assert (found["outcome"], found["advice"]) == ("failed", "start that server, or unset PREFECT_API_URL")


def test_a_store_is_read_and_one_that_cannot_be_is_a_failed_check(project: Path) -> None:
    store = project / ".nemotron" / "artifacts"
    store.mkdir(parents=True)
    assert "none yet" in checks()["artifact store"]["said"]
    assert list(store.iterdir()) == []
    (store / "format.json").write_text('{"format": 99}')
    assert "is not supported" in checks()["artifact store"]["said"]


def test_a_directory_that_cannot_be_written_is_a_failed_check(project: Path) -> None:
    (project / ".nemotron").touch()
    found = checks()[".nemotron"]
    assert found["outcome"] == "failed"
    assert "cannot be written" in found["said"]


def test_nothing_heavy_is_imported_and_it_takes_no_second_and_a_half(project: Path) -> None:
    script = (
        "import sys, typer; from nemotron.cli.doctor import doctor; app = typer.Typer(); app.command()(doctor)\n"
        "app([], standalone_mode=False)\n"
        "print([m for m in ('prefect', 'torch', 'ray', 'submitit') if m in sys.modules])"
    )
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=True,
        cwd=project,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.stdout.decode("ascii").rstrip().endswith("[]")
    assert done.stdout.startswith(b"ok ")
    assert time.monotonic() - begin < 10  # 0.4 s here; the machine may be busy


@pytest.mark.parametrize(
    ("version", "requirement", "allowed"),
    [
        ("3.8.8", "prefect==3.8.8", True),
        ("3.9.0", "prefect==3.8.8", False),
        ("0.150.2", "fastapi<0.151", True),
        ("0.151.0", "fastapi<0.151", False),
        ("2.13.0+cpu", "torch==2.13.0", True),
        ("2.4.6", "numpy<3,>=2", True),
        ("3.0.0", "numpy<3,>=2", False),
        ("2.0", "numpy<3,>=2", True),
        ("6.1", "psutil", True),
    ],
)
def test_pins_are_compared_by_number(version: str, requirement: str, allowed: bool) -> None:
    assert is_allowed(version, requirement) is allowed


def test_an_extra_that_is_missing_is_a_warning_and_one_against_its_pin_a_failure() -> None:
    missing = judge_extra("ray", "RL", ["no-such-package==1"])
    assert (missing.outcome, missing.advice) == ("warning", "pip install 'nemotron-flows[ray]'")
    wrong = judge_extra("dev", "tests", ["pytest<1"])
    assert wrong.outcome == "failed"
    assert wrong.said.startswith("pytest<1 is needed, ")


def test_a_file_system_is_told_by_its_mount() -> None:
    assert file_system(Path("/proc/self"))[0] == "proc"
