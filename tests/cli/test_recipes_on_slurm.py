"""Recipe commands on the real cluster: attached, detached, staged; every packager; a squashed image."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.cluster import Cluster
from cluster.ssh_server import SshServer, wait_for_no_connection
from hello_project import HelloProject, wait_until

PROFILE = """\
[lab]
executor = "slurm"
mem = "300M"
time = "00:05:00"
poll_interval_s = 1
failure_retries = 0

[behind]
extends = "lab"
tunnel = "ssh"
host = "login"
python = "PYTHON"

[boxed]
extends = "lab"
container_image = "nvcr.io/nvidia/nemo:25.11"
"""
# What enroot(1) import does, as far as a caller sees it: the real one needs a registry and user namespaces.
ENROOT = '#!/bin/sh\n[ "$1 $2" = "import -o" ] || exit 9\necho "$4" > "$3"\n'


@pytest.fixture
def project(tmp_path: Path, slurm: Cluster) -> HelloProject:
    folder = tmp_path / "project"
    folder.mkdir()
    env = {name: os.environ[name] for name in slurm.env}
    return HelloProject.create(folder, env_toml=PROFILE.replace("PYTHON", sys.executable), **env)


def num_queued() -> int:
    done = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True)
    return len(done.stdout.splitlines())


def test_an_attached_run_shows_the_log_and_ends_with_the_code_of_the_job(project: HelloProject) -> None:
    good = project.run("hello", "train", "-r", "lab", "seconds=2", "--", "--shout")
    bad = project.run("hello", "train", "-r", "lab", "code=5")

    assert good.returncode == 0, good.stderr
    assert "train | hello! 1\n" in good.stderr
    assert "hello-model:v0" in good.stdout
    assert bad.returncode == 5


def test_a_detached_run_gives_its_id_when_its_job_is_submitted(project: HelloProject) -> None:
    done = project.run("hello", "train", "--batch=lab", "seconds=30")
    num_jobs = num_queued()
    shown = json.loads(project.run("runs", "show", "--json").stdout)

    cancelled_at = time.monotonic()
    cancelled = project.run("runs", "cancel", done.stdout.strip())

    assert (shown["run"], shown["state"]) == (done.stdout.strip(), "running")
    assert num_jobs == 1
    assert cancelled.stdout == f"run {shown['run']}: cancelled\n"
    assert num_queued() == 0
    assert time.monotonic() - cancelled_at < 15


def test_a_detached_run_that_slurm_refuses_fails_at_once(project: HelloProject) -> None:
    done = project.run("hello", "train", "-b", "lab", "run.env.partition=nowhere")

    assert done.returncode == 1
    assert "invalid partition" in done.stderr


def test_a_job_whose_orchestrator_is_gone_is_cancelled_all_the_same(project: HelloProject) -> None:
    run_id = project.run("hello", "train", "-b", "lab", "seconds=60").stdout.strip()
    kill_driver(project, run_id)

    cancelled = project.run("runs", "cancel", run_id)

    assert cancelled.stdout == f"run {run_id}: cancelled, 1 job ended\n"
    assert num_queued() == 0


def kill_driver(project: HelloProject, run_id: str) -> None:
    """End the process that drives the run, so that it can say nothing."""
    driver = json.loads((project.home / "runs" / f"{run_id}.driver").read_text())
    os.kill(driver["pid"], signal.SIGKILL)
    wait_until(lambda: json.loads(project.run("runs", "show", run_id, "--json").stdout)["state"] == "interrupted")


def test_a_cancel_leaves_a_job_alone_that_another_run_waits_for(project: HelloProject) -> None:
    first = project.run("hello", "train", "-b", "lab", "seconds=60").stdout.strip()
    kill_driver(project, first)
    second = project.run("hello", "train", "-b", "lab", "seconds=60").stdout.strip()

    shown = project.run("hello", "train", "-r", "lab", "seconds=60", "-d").stdout
    cancelled = project.run("runs", "cancel", first)
    num_jobs = num_queued()
    project.run("runs", "attach", second)

    assert "nothing would be submitted" in shown
    assert cancelled.stdout == f"run {first}: cancelled\n"
    assert num_jobs == 1
    assert json.loads(project.run("runs", "show", second, "--json").stdout)["state"] == "done"


def test_a_cancel_that_cannot_be_done_now_is_written_down_and_done_later(project: HelloProject) -> None:
    run_id = project.run("hello", "train", "-b", "lab", "seconds=120").stdout.strip()
    kill_driver(project, run_id)
    env_toml = project.folder / "env.toml"
    env_toml.write_text(PROFILE.replace("[lab]", "[bal]").replace('"lab"', '"bal"'))

    cancelled = project.run("runs", "cancel", run_id)
    env_toml.write_text(PROFILE)
    subprocess.run(
        [sys.executable, "-m", "nemotron.tasks.reaper"], cwd=project.folder, env=project.environment(), check=True
    )

    assert cancelled.returncode == 2
    assert "could not be ended now" in cancelled.stderr
    assert num_queued() == 0


def test_the_job_is_the_one_that_the_dry_run_showed(project: HelloProject) -> None:
    shown = project.run("hello", "train", "-r", "lab", "-d").stdout
    project.run("hello", "train", "-r", "lab")

    (script,) = project.home.glob("work/train-*/attempts/a1/job.sh")
    assert script.read_text().rstrip() in shown
    assert script.with_name("payload.sh").read_text().rstrip() in shown


def test_a_staged_job_is_complete_and_not_submitted(project: HelloProject) -> None:
    done = project.run("hello", "train", "-r", "lab", "--stage", "seconds=1")
    folder, command = done.stdout.splitlines()
    num_jobs = num_queued()

    started = subprocess.run(
        [*command.replace("sbatch", "sbatch --wait").split()], cwd="/", capture_output=True, text=True, check=False
    )

    assert num_jobs == 0
    assert not (project.home / "work").exists()
    assert f"NEMOTRON_METRICS={folder}/work/metrics.jsonl" in (Path(folder) / "env.sh").read_text()
    assert started.returncode == 0, started.stderr
    assert (Path(folder) / "log.txt").read_text() == "hello 0\n"
    assert "hello-model" in project.run("artifacts", "list").stdout


def test_a_job_can_be_staged_for_this_machine(project: HelloProject) -> None:
    (project.folder / "env.toml").write_text('[here]\nexecutor = "local"\n')
    _, command = project.run(
        "hello", "train", "-r", "here", "--stage", "seconds=1", "--", "--shout"
    ).stdout.splitlines()

    started = subprocess.run(command.split(), cwd="/", capture_output=True, text=True, check=False)

    assert started.stdout == "hello! 0\n", started.stderr


def test_a_job_can_be_staged_on_a_cluster_behind_a_login_node(slurm: Cluster, project: HelloProject) -> None:
    folder = Path(tempfile.mkdtemp(prefix="ssh-"))
    with SshServer.running(folder / "server", **slurm.env) as running:
        project.env |= {
            "PATH": f"{running.programs}:{os.environ['PATH']}",
            "SLURM_CONF": "/dev/null",
            "TMPDIR": str(folder),
        }
        done = project.run("hello", "train", "-r", "behind", "--stage", "seconds=1")
        started = subprocess.run(
            done.stdout.splitlines()[1].replace("sbatch", "sbatch --wait"),
            shell=True,
            env=project.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    wait_for_no_connection(folder)
    shutil.rmtree(folder)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("ssh login ")
    assert started.returncode == 0, started.stderr


@pytest.mark.parametrize("packager", ["pattern", "self_contained", "code"])
def test_every_packager_takes_along_what_the_job_needs(project: HelloProject, packager: str) -> None:
    subprocess.run(["git", "init", "--quiet", project.folder], check=True)
    (project.folder / "recipes" / "hello" / "words.py").write_text("HOW = 'well packed'\n")
    script = project.folder / "recipes" / "hello" / "train.py"
    script.write_text(script.read_text().replace("import argparse\n", "import argparse\nimport words\n", 1))
    script.write_text(f"{script.read_text()}print(words.HOW, sys.argv[0])\n")

    done = project.run("hello", "train", "-r", "lab", f"run.env.packager={packager}")

    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "well packed" in line]
    assert "/attempts/a1/code/" in line
    assert not list(project.home.glob("work/*/attempts/a1/code/.nemotron"))


def test_an_image_is_squashed_once_and_the_job_takes_the_file(project: HelloProject) -> None:
    programs = project.folder.parent / "programs"
    programs.mkdir()
    (programs / "enroot").write_text(ENROOT)
    (programs / "enroot").chmod(0o755)
    project.env["PATH"] = f"{programs}:{os.environ['PATH']}"

    project.run("hello", "train", "-b", "boxed", "--force-squash")

    (image,) = (project.home / "images").iterdir()
    (payload,) = project.home.glob("work/train-*/attempts/a1/payload.sh")
    assert image.read_text() == "docker://nvcr.io#nvidia/nemo:25.11\n"
    assert f"--container-image={image}" in payload.read_text()


@pytest.fixture(autouse=True)
def nothing_left(project: HelloProject) -> Iterator[None]:
    """End what goes on in the background."""
    yield
    for path in (project.home / "runs").glob("*.json"):
        project.run("runs", "cancel", path.stem)
