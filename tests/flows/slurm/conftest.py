import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.cluster import Cluster
from flow_process import Project
from lab_project import PROFILE, LabProject


@pytest.fixture(scope="session")
def lab_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for all, so that the pretraining data is prepared once."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "env.toml").write_text(PROFILE)
    return folder


@pytest.fixture(scope="session")
def prepared(lab_folder: Path, prefect_home: Path, prefect_api: str, slurm_cluster: Cluster) -> Project:
    """The directory with its pretraining data."""
    env = {"PREFECT_HOME": str(prefect_home), "PREFECT_API_URL": prefect_api, **slurm_cluster.env}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    project = Project(folder=lab_folder, env=env)
    done = project.run("--profile", "lab", "--stages", "data_prep_pretrain", timeout_s=120)
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture
def lab(prepared: Project, slurm: Cluster, prefect_api: str, request: pytest.FixtureRequest) -> Iterator[LabProject]:
    """The directory, and a pretraining of its own for each test."""
    lab = LabProject(
        folder=prepared.folder, env=prepared.env, cluster=slurm, api=prefect_api, known=set(), name=request.node.name
    )
    lab.known = {job.job_id for job in lab.jobs()}
    yield lab
    lab.kill_processes()
