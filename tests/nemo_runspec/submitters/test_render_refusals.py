import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from job_specs import SUBMITTERS, golden_spec

from nemo_runspec.errors import ConfigError, RequirementError
from nemo_runspec.submitters import Submitter, render

NOTHING: Any = ()


@pytest.mark.parametrize("submitter", SUBMITTERS)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"account": "a\n#SBATCH --uid=0"}, "train: account = 'a.*one line"),
        ({"partition": ""}, "partition = ''.*not empty"),
        ({"mem": "64\\G"}, "mem = .*backslashes"),
        ({"sbatch": {"gres": "gpu:1\r"}}, "sbatch option 'gres'.*one line"),
        ({"sbatch": {"--gres": "gpu:1"}}, "sbatch option '--gres'.*without its dashes"),
        ({"sbatch": {"gres=gpu:1\n": True}}, "expected a long option"),
        ({"sbatch": {"output": "x"}}, "sbatch option 'output' is set for each job by nemotron; remove it"),
        ({"sbatch": {"requeue": True}}, "'requeue' is set for each job"),
        ({"sbatch": {"export": "NONE"}}, "'export' is set for each job"),
        ({"sbatch": {"nodes": 2}}, "sbatch option 'nodes'; set nodes in the profile"),
        ({"sbatch": {"ntasks": 2}}, "set ntasks_per_node in the profile"),
        ({"nodes": 0}, "nodes = 0; expected a whole number, 1 or more"),
        ({"cpus_per_task": "4"}, "cpus_per_task = '4'"),
        ({"gpus_per_node": -1}, "gpus_per_node = -1; expected a whole number, 0 or more"),
        ({"mounts": ("/a:/b,c",)}, "mounts: '/a:/b,c'.*no comma"),
        ({"container_image": "a\nb"}, "container_image.*one line"),
        ({"setup_lines": ("true\n#SBATCH --nodes=9",)}, "setup_lines: '#SBATCH --nodes=9'"),
        ({"setup_lines": ("a\0b",)}, "setup_lines.*NUL"),
        ({"startup_commands": ("\udcff",)}, "startup_commands.*not UTF-8"),
    ],
)
def test_what_a_script_cannot_say_is_refused_before_anything_is_written(
    submitter: Submitter, fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        render([golden_spec("direct", **fields)], submitter=submitter, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_an_unknown_submitter_is_told_with_what_is_meant(tmp_path: Path) -> None:
    unknown: Any = "submitit2"
    with pytest.raises(ConfigError, match=r"submitter = 'submitit2'; allowed: submitit, nemo-run\. Did you mean"):
        render([golden_spec("direct")], submitter=unknown, cache_dir=tmp_path)


def test_a_missing_submitit_is_told_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit.slurm.slurm", None)
    with pytest.raises(RequirementError, match=r"pip install 'nemotron-flows\[slurm\]'"):
        render([golden_spec("direct")], submitter="submitit", cache_dir=tmp_path)


def test_importing_the_submitters_imports_neither_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "submitit", raising=False)
    importlib.reload(importlib.import_module("nemo_runspec.submitters.with_submitit"))
    assert "submitit" not in sys.modules
