import sys
from pathlib import Path

import pytest

from nemo_runspec.errors import ConfigError
from nemo_runspec.execution import build_env_vars, build_local_command, execute_local
from nemo_runspec.runspec import Runspec, RunspecRun


def spec(**run: str) -> Runspec:
    return Runspec(script_path=Path("/r/train.py"), run=RunspecRun(**run))


@pytest.mark.parametrize(("launch", "nproc"), [("torchrun", 1), ("direct", 4), ("ray", 4)])
def test_one_process_starts_without_torchrun(launch: str, nproc: int) -> None:
    command = build_local_command(spec(launch=launch), "/j/t.yaml", nproc=nproc, passthrough=["--x"])
    assert command == [sys.executable, "/r/train.py", "--config", "/j/t.yaml", "--x"]


def test_several_processes_start_through_torchrun_on_a_free_port() -> None:
    command = build_local_command(spec(), "/j/t.yaml", nproc=2)
    assert command[1:9] == [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "localhost:0",
    ]


def test_a_command_of_its_own_gets_script_and_config() -> None:
    command = build_local_command(spec(cmd="uv run '{script}' -f={config}"), "/a b/t.yaml")
    assert command == ["uv", "run", "/r/train.py", "-f=/a b/t.yaml"]


def test_no_process_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="nproc_per_node = 0"):
        build_local_command(spec(), "t.yaml", nproc=0)


def test_the_profile_has_the_last_word_on_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/mine")
    job = {"run": {"wandb": {"project": "p"}, "env": {"env_vars": {"HF_HOME": "/profile", "N": 1}}}}
    variables = build_env_vars(job)
    assert (variables["HF_HOME"], variables["WANDB_PROJECT"], variables["N"]) == ("/profile", "p", "1")


def test_a_job_gets_the_key_of_wandb_with_the_server_that_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k1")
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.lab")
    variables = build_env_vars({})
    assert (variables["WANDB_API_KEY"], variables["WANDB_BASE_URL"]) == ("k1", "https://wandb.lab")


def test_the_exit_code_of_the_script_is_passed_on(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text("import os, sys; sys.exit(int(os.environ['CODE']))")
    with pytest.raises(SystemExit, match="5"):
        execute_local(script, tmp_path / "t.yaml", [], env_vars={"CODE": "5"})


def test_startup_commands_run_first_in_the_same_shell(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text("import os, sys; sys.exit(int(os.environ['CODE']))")
    with pytest.raises(SystemExit, match="6"):
        execute_local(script, tmp_path / "t.yaml", [], startup_commands=["export CODE=6"])
