"""Real pretraining in jobs that are too short for it, on the real cluster."""

from pathlib import Path

import pytest
from cluster.cluster import Cluster
from flow_process import Project

from nemo_runspec.profiles import Profile, format_toml

TRAINING = ("--stages", "data_prep_pretrain,pretrain", "pretrain.train.train_iters=500")


@pytest.mark.slow
def test_pretraining_over_several_time_limits_sees_each_step_once(
    slurm: Cluster, tmp_path: Path, prefect_home: Path
) -> None:
    project = Project(folder=tmp_path, env={**slurm.env, "PREFECT_HOME": str(prefect_home)})
    profile = Profile(executor="slurm", mem="4G", time="1", poll_interval_s=2, stop_before_end_s=25)
    (tmp_path / "env.toml").write_text(format_toml("short", profile))

    done = project.run("--profile", "short", *TRAINING, timeout_s=900)

    assert done.returncode == 0, done.stderr
    jobs = [line for line in done.stdout.splitlines() if "│ pretrain " in line and "node" in line]
    assert [("STOPPED" in line, "COMPLETED" in line) for line in jobs] == [
        *[(True, False)] * (len(jobs) - 1),
        (False, True),
    ]
    assert len(jobs) >= 3, done.stdout
    log = (project.work_dir("pretrain") / "metrics.jsonl").read_text()
    assert [log.count(f'"step": {step},') for step in range(1, 501)] == [1] * 500
