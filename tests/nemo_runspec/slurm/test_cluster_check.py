"""A profile's checks on a real cluster, from here and over SSH, when all is well and when something is not."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster.cluster import Cluster
from cluster.ssh_server import SshServer

from nemo_runspec.checks import Check
from nemo_runspec.profiles import Profile
from nemo_runspec.slurm.account_check import Association, find_problem
from nemo_runspec.slurm.cluster_check import ClusterRequest, check_cluster
from nemo_runspec.slurm.hosts import Host, LocalHost
from nemo_runspec.slurm.partition_check import count_nodes_up, parse_partitions, time_limit_s
from nemo_runspec.slurm.spec import JobSpec


def checks(folder: Path, *, host: Host | None = None, **fields: Any) -> dict[str, Check]:
    """All checks of a profile with these fields, by name."""
    profile = Profile(**{"executor": "slurm", "python": sys.executable, "time": "5", "mem": "300M", **fields})
    spec = JobSpec(
        stage="check",
        launcher="direct",
        command=(profile.python or "python", "script.py"),
        nodes=profile.nodes or 1,
        gpus_per_node=profile.gpus_per_node or 0,
        mem=profile.mem,
        time_limit=profile.time,
        account=profile.account,
        partition=profile.partition,
        qos=profile.qos,
        container_image=profile.container_image,
    )
    request = ClusterRequest(
        profile=profile, host=host or LocalHost(), specs=(spec,), folders={"remote_job_dir": folder / "new" / "work"}
    )
    return {check.name: check for check in check_cluster(request)}


def outcomes(found: dict[str, Check], outcome: str) -> list[str]:
    return [name for name, check in found.items() if check.outcome == outcome]


@pytest.fixture
def enforcing(slurm: Cluster) -> Iterator[None]:
    """The cluster refuses accounts that a user has not, for the test."""
    slurm.settings["SLURM_ENFORCE"] = "associations"
    slurm.kill("slurmctld")
    slurm.up()
    yield
    del slurm.settings["SLURM_ENFORCE"]
    slurm.kill("slurmctld")
    slurm.up()


def test_all_is_well_on_a_cluster_that_is(slurm: Cluster, tmp_path: Path) -> None:
    found = checks(tmp_path, partition="main", account="test", qos="normal", nodes=2, gpus_per_node=1)
    assert outcomes(found, "ok") == list(found)
    assert "slurm" in found["Slurm's programs"].said
    assert found["partition"].said == "main: UP, time 5 of no limit, nodes 2 of 4 up"
    assert "account test, qos normal: usable by root" in found["account"].said
    assert "to start at" in found["sbatch --test-only"].said
    assert slurm.jobs(name="nemotron-check") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("slurm")
def test_a_partition_that_is_not_there(tmp_path: Path) -> None:
    found = checks(tmp_path, partition="mian")
    assert found["partition"].said == "no partition 'mian'; have: main, scav, high. Did you mean 'main'?"
    assert "invalid partition" in found["sbatch --test-only"].said
    assert outcomes(found, "failed") == ["partition", "sbatch --test-only"]


def test_a_partition_that_is_down(slurm: Cluster, tmp_path: Path) -> None:
    slurm.ask("scontrol", "update", "PartitionName=scav", "State=DOWN")
    try:
        found = checks(tmp_path, partition="scav")
        several = checks(tmp_path, partition="scav,main")
    finally:
        slurm.ask("scontrol", "update", "PartitionName=scav", "State=UP")
    assert found["partition"].outcome == "failed"
    assert "scav: it is DOWN" in found["partition"].said
    assert several["partition"].outcome == "ok"


def test_a_time_beyond_the_partitions_limit(slurm: Cluster, tmp_path: Path) -> None:
    slurm.ask("scontrol", "update", "PartitionName=scav", "MaxTime=1:00:00")
    try:
        found = checks(tmp_path, partition="scav", time="1-00:00:00")
    finally:
        slurm.ask("scontrol", "update", "PartitionName=scav", "MaxTime=INFINITE")
    assert found["partition"].outcome == "failed"
    assert "time = 1-00:00:00 is beyond its limit of 01:00:00" in found["partition"].said


@pytest.mark.usefixtures("slurm")
def test_more_nodes_than_there_are(tmp_path: Path) -> None:
    found = checks(tmp_path, nodes=5)
    assert "nodes = 5, it has 4" in found["partition"].said
    assert outcomes(found, "failed") == ["partition", "sbatch --test-only"]


def test_more_nodes_than_are_up(slurm: Cluster, tmp_path: Path) -> None:
    slurm.ask("scontrol", "update", "NodeName=node4", "State=DRAIN", "Reason=test")
    try:
        found = checks(tmp_path, nodes=4)
    finally:
        slurm.ask("scontrol", "update", "NodeName=node4", "State=RESUME")
    assert "nodes = 4, of its 4 nodes 3 are up" in found["partition"].said


@pytest.mark.usefixtures("enforcing")
def test_an_account_and_a_qos_that_the_user_has_not(tmp_path: Path) -> None:
    account = checks(tmp_path, account="tset")
    assert account["account"].said == "account 'tset' is none of root's; have: test, root. Did you mean 'test'?"
    assert outcomes(account, "failed") == ["account", "sbatch --test-only"]
    assert "qos 'gold' is not allowed there; have: normal." in checks(tmp_path, qos="gold")["account"].said


@pytest.mark.usefixtures("slurm")
def test_an_account_that_the_cluster_does_not_enforce_is_not_a_failure(tmp_path: Path) -> None:
    found = checks(tmp_path, account="tset")["account"]
    assert found.outcome == "unknown"
    assert "does not enforce it" in found.said


def test_a_slurmctld_that_is_away_is_no_answer_and_the_rest_is_checked(slurm: Cluster, tmp_path: Path) -> None:
    slurm.kill("slurmctld")
    found = checks(tmp_path, partition="main", account="test")
    slurm.up()
    assert found["slurmctld"].said.startswith("no answer: ")
    assert outcomes(found, "failed") == ["slurmctld"]
    assert outcomes(found, "unknown") == ["partition", "account", "sbatch --test-only"]
    assert found["accounting"].outcome == found["python"].outcome == "ok"


def test_accounting_that_is_away_is_no_answer(slurm: Cluster, tmp_path: Path) -> None:
    slurm.kill("slurmdbd")
    found = checks(tmp_path, account="test")
    slurm.up()
    assert outcomes(found, "failed") == ["accounting"]
    assert found["accounting"].said.startswith("no answer: ")


@pytest.mark.usefixtures("slurm")
def test_an_image_file_that_is_missing_and_no_pyxis(tmp_path: Path) -> None:
    found = checks(tmp_path, container_image=f"{tmp_path}/missing.sqsh")
    assert outcomes(found, "failed") == ["pyxis", "container image"]
    assert outcomes(found, "unknown") == ["python"]
    (tmp_path / "there.sqsh").touch()
    assert checks(tmp_path, container_image=f"{tmp_path}/there.sqsh")["container image"].outcome == "ok"
    assert checks(tmp_path, container_image="nvcr.io/nvidia/nemo:25.04")["container image"].outcome == "unknown"


@pytest.mark.usefixtures("slurm")
def test_an_interpreter_that_is_missing_or_lacks_packages(tmp_path: Path) -> None:
    assert "/no/python" in checks(tmp_path, python="/no/python")["python"].said
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')  # without site-packages
    bare.chmod(0o755)
    assert "No module named 'omegaconf'" in checks(tmp_path, python=str(bare))["python"].said
    assert checks(tmp_path, python=str(bare), setup_lines="module load x")["python"].outcome == "unknown"


@pytest.mark.usefixtures("slurm")
def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    assert outcomes(checks(tmp_path), "failed") == ["directory"]


def test_all_is_well_behind_a_login_node(
    slurm: Cluster, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SshServer.running(folder / "server", **slurm.env) as server:
        monkeypatch.setenv("PATH", f"{server.programs}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_CONF", "/dev/null")
        found = checks(tmp_path, host=server.host(), partition="main")
    assert outcomes(found, "ok") == list(found)
    assert "login (" in found["login node"].said
    assert "and login sees it under the same path" in found["directory"].said


def test_a_login_node_that_cannot_be_reached(server: SshServer, tmp_path: Path) -> None:
    server.stop()
    found = checks(tmp_path, host=server.host())
    assert "Connection refused" in found["login node"].said
    assert outcomes(found, "failed") == ["login node"]
    assert outcomes(found, "ok") == ["submitter"]


def test_a_login_node_without_slurm(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = folder / "few"
    few.mkdir()
    for name in ("sh", "uname", "env", "tail", "id"):
        (few / name).symlink_to(str(shutil.which(name)))
    with SshServer.running(folder / "server", PATH=str(few)) as server:
        monkeypatch.setenv("PATH", f"{server.programs}:{os.environ['PATH']}")
        found = checks(tmp_path, host=server.host())
    assert found["Slurm's programs"].said == "login: no sbatch, squeue, scancel, sacct, scontrol, sinfo on PATH"
    assert "set PATH for commands over ssh there" in found["Slurm's programs"].advice
    assert found["slurmctld"].said == "not checked: it needs Slurm's programs"
    assert found["directory"].outcome == "ok"


def test_a_directory_that_the_login_node_does_not_share(server: SshServer, tmp_path: Path) -> None:
    server.stop()  # it has another file system at that place
    server.start(command=f"""sh -c 'eval "$(printf %s "$SSH_ORIGINAL_COMMAND" | sed s,{tmp_path},/nowhere,g)"'""")
    found = checks(tmp_path, host=server.host())["directory"]
    assert found.said == f"{tmp_path}/new/work is not visible on login under this path"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 300),
        ("5:30", 330),
        ("04:00:00", 14400),
        ("1-0", 86400),
        ("1-12:30", 131400),
        ("2-00:00:01", 172801),
        ("UNLIMITED", None),
        ("INFINITE", None),
    ],
)
def test_time_limits_in_all_of_slurms_forms(text: str, seconds: int | None) -> None:
    assert time_limit_s(text) == seconds


def test_partitions_and_nodes_as_slurm_lists_them() -> None:
    line = (
        "PartitionName=a AllowGroups=ALL Default=YES MaxNodes=2 MaxTime=1-00:00:00 State=UP TotalNodes=8 JobDefaults=x"
    )
    (found,) = parse_partitions(f"{line}\n").values()
    assert (found.is_default, found.max_nodes, found.time_limit_s, found.num_nodes) == (True, 2, 86400, 8)
    assert count_nodes_up("a*|idle|n1\na*|down*|n2\na*|mix|n3\nb|idle|n1\na*|drain|n4\n") == {"a": 2, "b": 1}


def test_a_user_without_any_account() -> None:
    assert find_problem([], account=None, qos=None, user="me") == "user me has no account on this cluster."
    mine = [Association(account="a", qos=("normal",)), Association(account="b", qos=("gold",))]
    assert find_problem(mine, account="a", qos="gold", user="me") is not None
    assert find_problem(mine, account="b", qos="gold", user="me") is None
