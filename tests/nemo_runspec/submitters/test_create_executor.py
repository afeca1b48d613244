"""The executor for a profile; NeMo-Run itself answers from the environment that the renderer has."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import uv

import nemo_runspec
from nemo_runspec.errors import ConfigError, RequirementError
from nemo_runspec.execution import create_executor
from nemo_runspec.submitters.with_nemo_run import RENDERER

SECRET = 'it\'s $(id) $$ ${x} "q" a b'
ASK = """
import dataclasses, json, os, sys
import nemo_run as run
from nemo_runspec.execution import create_executor
from nemo_runspec.runspec import RunspecResources
SLURM = {"executor": "slurm", "account": "llm", "partition": "p", "run_partition": "interactive", "time": "01:00:00",
         "gpus_per_node": 8, "nproc_per_node": 8, "mounts": ["/a:/b"], "exclusive": True, "nodelist": "n1",
         "sbatch": {"gres": "gpu:8"}, "setup_lines": ["a", "b"]}
SSH = {"executor": "slurm", "tunnel": "ssh", "host": "h", "user": "u", "remote_job_dir": "/r"}
resources = RunspecResources(nodes=3, gpus_per_node=4)
packager = run.Packager()
made = {
    "none": create_executor(None, {"A": "b"}, packager),
    "local": create_executor({"executor": "local", "nproc_per_node": 2}, {}, packager),
    "attached": create_executor(SLURM, {}, packager, attached=True, default_image="img", script_resources=resources),
    "batch": create_executor(SLURM, {}, packager),
    "ssh": create_executor(SSH, {}, packager, script_resources=resources),
}
secret = create_executor(SLURM, {"A": sys.stdin.read()}, packager)
with run.Experiment("x") as experiment:
    experiment.add(run.Script(path="s"), executor=secret, name="t")
    experiment.dryrun(log=False, delete_exp_dir=False)
script = open(os.path.join(experiment.jobs[0].executor.experiment_dir, "t_sbatch.sh")).read()
tell = {name: {"class": type(e).__name__, **dataclasses.asdict(e), "packager": None} for name, e in made.items()}
tell["ssh"]["tunnel"] = {name: tell["ssh"]["tunnel"][name] for name in ("host", "user", "job_dir")}
with open("answer.json", "w") as file:
    json.dump({**tell, "script": script}, file, default=str)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What NeMo-Run made of each profile, as its fields."""
    folder = tmp_path_factory.mktemp("ask")
    (folder / "nemo_runspec").symlink_to(Path(nemo_runspec.__file__).parent)
    requirements = RENDERER.read_text().partition('"""')[0]
    (folder / "ask.py").write_text(requirements + ASK)
    done = subprocess.run(
        [uv.find_uv_bin(), "run", "--python", sys.executable, "--script", "ask.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "NEMORUN_HOME": str(folder)},
        input=SECRET,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads((folder / "answer.json").read_text())
    return answer


def test_without_a_profile_it_runs_here(made: dict[str, Any]) -> None:
    assert made["none"]["class"] == "LocalExecutor"
    assert made["none"]["env_vars"] == {"A": "b"}
    assert made["local"]["ntasks_per_node"] == 2


def test_an_attached_job_goes_to_the_partition_for_it(made: dict[str, Any]) -> None:
    assert (made["attached"]["partition"], made["batch"]["partition"]) == ("interactive", "p")


def test_a_profile_becomes_the_fields_of_the_slurm_executor(made: dict[str, Any]) -> None:
    wanted = {
        "class": "SlurmExecutor",
        "account": "llm",
        "time": "01:00:00",
        "nodes": 3,
        "gpus_per_node": 8,
        "torchrun_nproc_per_node": 8,
        "exclusive": True,
        "container_image": "img",
        "container_mounts": ["/a:/b"],
        "setup_lines": "a\nb",
        "additional_parameters": {"nodelist": "n1", "gres": "gpu:8"},
    }
    assert {name: made["attached"][name] for name in wanted} == wanted


def test_the_resources_of_the_script_count_where_the_profile_says_nothing(made: dict[str, Any]) -> None:
    assert (made["ssh"]["nodes"], made["ssh"]["gpus_per_node"]) == (3, 4)
    assert (made["batch"]["nodes"], made["batch"]["container_image"]) == (1, None)


def test_a_tunnel_over_ssh_has_its_host(made: dict[str, Any]) -> None:
    assert made["ssh"]["tunnel"] == {"host": "h", "user": "u", "job_dir": "/r"}


def test_a_variable_reaches_the_job_as_it_was(made: dict[str, Any]) -> None:
    [line] = [line for line in made["script"].splitlines() if line.startswith("export A=")]
    assert subprocess.check_output(["bash", "-c", f'{line}\nprintf %s "$A"'], text=True) == SECRET


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"executor": "slrum"}, "executor = 'slrum'; allowed: local, slurm. Did you mean 'slurm'"),
        ({"executor": "slurm", "tunnel": "tcp"}, "tunnel = 'tcp'; allowed: local, ssh"),
        ({"executor": "slurm", "tunnel": "ssh", "host": "h"}, 'tunnel = "ssh" also needs user, remote_job_dir'),
    ],
)
def test_a_profile_that_cannot_be_used_is_refused(profile: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_executor(profile, {}, None)


def test_squashing_is_refused_with_what_to_do() -> None:
    with pytest.raises(RequirementError, match=r"force_squash.*enroot import"):
        create_executor({"executor": "slurm"}, {}, None, force_squash=True)


def test_a_missing_nemo_run_is_told_with_the_other_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nemo_run", None)
    with pytest.raises(RequirementError, match=r"pip install 'nemotron-flows\[nemo-run\]' without \[flows\]"):
        create_executor(None, {}, None)
