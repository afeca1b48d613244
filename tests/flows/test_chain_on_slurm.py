"""The whole chain on the real cluster: torchrun and Ray over four nodes."""

from pathlib import Path

import pytest
from cluster.cluster import Cluster
from flow_process import Project

from nemo_runspec.profiles import Profile, format_toml
from nemotron.flows.nano3_stages import STAGES


@pytest.mark.slow
@pytest.mark.parametrize("submitter", ["submitit", "nemo-run"])
def test_the_chain_runs_on_four_nodes(slurm: Cluster, tmp_path: Path, prefect_home: Path, submitter: str) -> None:
    project = Project(folder=tmp_path, env={**slurm.env, "PREFECT_HOME": str(prefect_home)})
    profile = Profile(
        executor="slurm",
        submitter=submitter,  # type: ignore[arg-type]
        nodes=4,
        nproc_per_node=1,
        mem="6G",
        time="30",
        poll_interval_s=2,
    )
    (tmp_path / "env.toml").write_text(format_toml("lab", profile))

    done = project.run("--profile", "lab", timeout_s=1100)

    assert done.returncode == 0, done.stderr
    rows = [line.split("│") for line in done.stdout.splitlines() if "COMPLETED" in line]
    jobs = {cells[1].strip(): cells[4].strip() for cells in rows}
    assert list(jobs) == list(STAGES)
    assert {stage: nodes for stage, nodes in jobs.items() if nodes == "node[1-4]"}.keys() == {"pretrain", "sft", "rl"}
    assert "nano3-pretrain-model:v0" in done.stdout.split("nano3-rl-model:v0")[-1], "no lineage"
