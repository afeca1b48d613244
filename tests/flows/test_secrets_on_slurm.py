"""Where a secret of the profile goes when the flow runs on Slurm: into one file that nobody else can read."""

from pathlib import Path

from cluster.cluster import Cluster
from flow_process import Project

from nemo_runspec.profiles import Profile, format_toml

CANARY = "canary-51c2e"


def files_with(folder: Path, text: str) -> dict[Path, int]:
    """Files below the folder that hold the text, and their permissions."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path: path.stat().st_mode & 0o777 for path in files if text.encode() in path.read_bytes()}


def test_a_secret_is_in_no_row_log_report_or_file_of_others(slurm: Cluster, tmp_path: Path) -> None:
    project = Project(folder=tmp_path / "project", env={**slurm.env, "PREFECT_HOME": str(tmp_path / "prefect")})
    project.folder.mkdir()
    profile = Profile(
        executor="slurm", mem="4G", time="5", poll_interval_s=1, env_vars={"SITE_LOGIN": CANARY, "HF_TOKEN": CANARY}
    )
    (project.folder / "env.toml").write_text(format_toml("lab", profile))

    done = project.run("--profile", "lab", "--stages", "data_prep_pretrain", "--logs")

    assert done.returncode == 0, done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert files_with(tmp_path / "prefect", "data_prep_pretrain"), "the run is not in Prefect's database"
    assert files_with(tmp_path / "prefect", CANARY) == {}
    (found,) = (path for path in files_with(project.folder, CANARY).items() if path[0].name != "env.toml")
    assert (found[0].name, oct(found[1])) == ("env.sh", "0o600")
    state = slurm.folder / "log"
    assert files_with(state, CANARY) == {}
