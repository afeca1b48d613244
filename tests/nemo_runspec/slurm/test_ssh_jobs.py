"""Jobs on the real cluster through its login node: a job's life, a network that is cut, what is checked before."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bare_job import prepare, wait, wait_for_state
from cluster.cluster import Cluster
from cluster.ssh_server import SshServer, wait_for

from nemo_runspec.errors import ConfigError, SlurmRefused
from nemo_runspec.slurm.client import SlurmClient
from nemo_runspec.slurm.hosts import LocalHost
from nemo_runspec.slurm.login_node import check_login_node
from nemo_runspec.slurm.monitor import Monitor
from nemo_runspec.slurm.states import Ending
from nemo_runspec.slurm.submit import submit_once


@pytest.fixture
def login(slurm: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    """The cluster's login node; Slurm's programs do not find the cluster from here."""
    with SshServer.running(folder / "server", **slurm.env) as running:
        monkeypatch.setenv("PATH", f"{running.programs}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_CONF", "/dev/null")
        yield running


def test_a_shared_directory_is_seen_once_and_left_clean(server: SshServer, folder: Path) -> None:
    host = server.host()
    host.write(server.home / ".bashrc", f"PATH={server.folder}/slurm:$PATH\n", mode=0o600)
    for name in ("sbatch", "squeue", "sacct", "scancel"):
        host.write(server.folder / "slurm" / name, "", mode=0o755)
    check_login_node(host, {"remote_job_dir": folder / "new" / "work"})
    server.stop()
    check_login_node(host, {"remote_job_dir": folder / "new" / "work"})
    assert os.listdir(folder / "new" / "work") == []


def test_a_directory_that_the_login_node_does_not_share_is_refused(login: SshServer, folder: Path) -> None:
    login.stop()  # it has another file system at that place
    login.start(command=f"""sh -c 'eval "$(printf %s "$SSH_ORIGINAL_COMMAND" | sed s,{folder}/work,/nowhere,g)"'""")
    with pytest.raises(ConfigError) as caught:
        check_login_node(login.host(), {"remote_job_dir": folder / "work"})
    assert str(caught.value) == (
        f"{folder}/work is not visible on login; set remote_job_dir to a directory that both share"
    )
    assert os.listdir(folder / "work") == []


def test_a_login_node_without_slurm_on_its_path_is_refused(server: SshServer, folder: Path) -> None:
    (server.home / ".bashrc").write_text(f"mkdir -p {folder}/b; ln -sf /bin/sh {folder}/b/sh; PATH={folder}/b\n")
    with pytest.raises(ConfigError, match=r"^login has no sbatch, squeue, sacct, scancel on the PATH of a command"):
        check_login_node(server.host(), {})


def test_on_this_machine_there_is_nothing_to_check(tmp_path: Path) -> None:
    check_login_node(LocalHost(), {"remote_job_dir": tmp_path / "work"})
    assert not (tmp_path / "work").exists()


def test_a_job_s_whole_life_over_one_connection(login: SshServer, tmp_path: Path) -> None:
    client = SlurmClient(host=login.host())
    job = prepare(tmp_path / "ssh-life", "sleep 300")
    key, begun = job.attempt.intent.key, time.time()
    job_id = client.submit(job.attempt.folder / "job.sh", job.options)
    assert [found.job_id for found in client.find(key, since=begun)] == [job_id]
    assert job_id in {row.job_id for row in client.queue()}
    client.cancel(key, [job_id])
    wait_for(lambda: not client.is_queued(key))
    wait_for(
        lambda: (row := client.accounting([job_id]).get(job_id)) and row.state == "CANCELLED"
    )  # it hears of it last
    assert login.num_logins() == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--no-such-option"], "unrecognized option"), (["--partition=none"], "invalid partition")],
)
def test_what_sbatch_refuses_is_no_failure_of_ssh(
    login: SshServer, tmp_path: Path, options: list[str], said: str
) -> None:
    job = prepare(tmp_path / "ssh-refused", "exit 0")
    client = SlurmClient(host=login.host())
    with pytest.raises(SlurmRefused, match=said):
        client.submit(job.attempt.folder / "job.sh", [*job.options, *options])


def test_a_cut_in_mid_watch_is_no_verdict_and_the_watch_goes_on(login: SshServer, tmp_path: Path) -> None:
    client = SlurmClient(host=login.host())
    monitor = Monitor(client=client, poll_s=1.0)
    go_on = tmp_path / "go-on"
    job = prepare(tmp_path / "ssh-watch", f"while [ ! -e {go_on} ]; do sleep 0.2; done")
    watched = monitor.watch(job.attempt, submit_once(job.attempt, client, job.options), num_gpus=0)
    wait_for_state(monitor, watched, "RUNNING")
    login.stop()
    go_on.touch()
    wait_for((job.attempt.folder / "done.json").exists)
    assert monitor.wait(watched, timeout_s=4) is None
    login.start()
    verdict = wait(monitor, watched, timeout_s=30)
    assert (verdict.ending, verdict.exit_code, verdict.job_id) == (Ending.COMPLETED, "0:0", watched.job_id)


@pytest.mark.parametrize("moment", ["before Slurm hears of it", "before its answer arrives"])
def test_an_sbatch_that_is_cut_off_leads_to_one_job(login: SshServer, tmp_path: Path, moment: str) -> None:
    began = tmp_path / "began"
    order = [f"touch {began}; sleep 2", 'said=$(/usr/bin/sbatch "$@")']
    lines = order if moment == "before Slurm hears of it" else order[::-1]
    slow = tmp_path / "bin" / "sbatch"
    LocalHost().write(slow, "\n".join(["#!/bin/sh", "trap '' PIPE", *lines, 'echo "$said"', ""]), mode=0o755)
    (login.home / ".bashrc").write_text(f"[ -e {began} ] || PATH={slow.parent}:$PATH\n")

    def cut() -> None:
        wait_for(began.exists)
        login.stop()
        time.sleep(1)
        login.start()

    client, job = SlurmClient(host=login.host()), prepare(tmp_path / moment.replace(" ", "-"), "exit 0")
    with ThreadPoolExecutor() as pool:
        cutting = pool.submit(cut)
        job_id = submit_once(job.attempt, client, job.options, pause=time.sleep)
        cutting.result()
    found = client.find(job.attempt.intent.key, since=time.time() - 3600)
    assert [job.job_id for job in found] == [job_id]
