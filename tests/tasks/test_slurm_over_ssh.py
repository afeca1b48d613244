"""A whole stage from a workstation: its files are here, Slurm's programs are on a login node, reached over SSH."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.cluster import Cluster
from cluster.ssh_server import SshServer, wait_for_no_connection
from small_recipe import options, write_recipe

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.errors import ConfigError
from nemo_runspec.profiles import Profile, format_toml
from nemotron.tasks.stage import run_stage

PROFILE = Profile(
    executor="slurm", tunnel="ssh", host="login", python=sys.executable, mem="300M", time="5", poll_interval_s=1
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project directory whose env.toml has the profile as `workstation`."""
    (tmp_path / "env.toml").write_text(format_toml("workstation", PROFILE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def login(
    slurm: Cluster,
    project: Path,  # noqa: ARG001 - pytest must have made it before temporary files go elsewhere
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[SshServer]:
    """The cluster's login node; Slurm's programs do not find the cluster from here."""
    folder = Path(tempfile.mkdtemp(prefix="ssh-"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with SshServer.running(folder / "server", **slurm.env) as running:
        monkeypatch.setenv("PATH", f"{running.programs}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_CONF", "/dev/null")
        yield running
    wait_for_no_connection(folder)
    shutil.rmtree(folder)


def test_a_stage_runs_on_the_cluster_behind_a_login_node(login: SshServer, project: Path) -> None:
    result = run_stage(write_recipe(project), options(project, profile="workstation"), {})
    (job,) = result.jobs
    assert (job.ending, job.exit_code) == ("COMPLETED", "0:0")
    assert (ArtifactStore(project / ".nemotron" / "artifacts").materialize(result.ref) / "text").read_text() == "hello"
    assert login.num_logins() == 1


def test_a_project_that_the_login_node_does_not_share_is_refused_before_a_job_is_submitted(
    login: SshServer, slurm: Cluster, project: Path
) -> None:
    login.stop()  # it has another file system at that place
    login.start(command=f"""sh -c 'eval "$(printf %s "$SSH_ORIGINAL_COMMAND" | sed s,{project},/nowhere,g)"'""")
    with pytest.raises(ConfigError, match="is not visible on login; set remote_job_dir to a directory that both share"):
        run_stage(write_recipe(project), options(project, run_id="unshared", profile="workstation"), {})
    assert slurm.jobs(name="unshared") == []
