"""`--stage`: code, configs and a script to start by hand, copied to where the profile's jobs lie. Submits nothing.

Over SSH nothing of the login node's file system need be visible here.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.config import save_configs
from nemo_runspec.errors import RequirementError
from nemo_runspec.packaging import pack_tar
from nemo_runspec.profiles import Profile
from nemo_runspec.slurm.hosts import Host
from nemo_runspec.slurm.job_script import check_path, split_script
from nemotron.flows.pipelines import new_pipeline
from nemotron.flows.runs import RunRequest
from nemotron.tasks.job_files import JobFiles, build_job_files, job_environment
from nemotron.tasks.plan import StagePlan, plan_stage
from nemotron.tasks.run_local import local_command
from nemotron.tasks.run_slurm import connect
from nemotron.tasks.stage_options import StageOptions

COPY_TIMEOUT_S = 600.0
_SBATCH = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --chdir={folder}
#SBATCH --output={folder}/log.txt
{directives}
cd {folder} || exit 1
. ./env.sh
mkdir -p "$NEMO_RUN_DIR"
exec bash payload.sh
"""
_SHELL = """\
#!/bin/bash
cd {folder} || exit 1
. ./env.sh
mkdir -p "$NEMO_RUN_DIR"
exec {command}
"""


def stage_run(request: RunRequest, home: Path) -> int:
    """Copy everything; print the directory and the command that starts it, to standard output; 0.

    Raises:
        RunspecError: what a run would be refused for, or the copy failed.
    """
    pipeline = new_pipeline(request, project_dir=home.parent)
    name = request.stage_name()
    options = pipeline.stage_options(name)
    plan = plan_stage(pipeline.stage(name), options, {}, ArtifactStore(options.store_root))
    folder = options.work_root(plan.profile).absolute().parent / "staged" / f"{request.run_id}-{name}"
    check_path(folder)
    host = connect(plan.profile)
    own = {"NEMO_RUN_DIR": str(folder / "work"), "NEMOTRON_METRICS": str(folder / "work" / "metrics.jsonl")}
    environment = {**job_environment(plan, options), **own}
    files = build_job_files(plan, options, environment, folder)
    script = _script(plan, options, files, folder)
    copy_files(host, plan, files, folder, script)
    starter = "sbatch" if plan.profile.executor == "slurm" else "bash"
    start = shlex.join([starter, str(folder / "job.sh")])
    if plan.profile.tunnel == "ssh" and plan.profile.host:
        start = shlex.join(["ssh", *login_options(plan.profile), plan.profile.host, start])
        how = "must be there under the same path" if options.store_path else "it must reach"
        note = f"its inputs are read from {options.store_root}, which {how}"
        sys.stderr.write(f"note: {note}\n")
    sys.stdout.write(f"{folder}\n{start}\n")
    return 0


def login_options(profile: Profile) -> list[str]:
    """How ssh logs in there, as options."""
    given = {"-l": profile.user, "-p": profile.port, "-i": profile.identity}
    return [word for option, value in given.items() if value is not None for word in (option, str(value))]


def copy_files(host: Host, plan: StagePlan, files: JobFiles, folder: Path, script: str) -> None:
    """Write all that the job reads into `folder` on the host.

    Raises:
        RequirementError: the code could not be unpacked there.
    """
    with tempfile.TemporaryDirectory(prefix="nemotron-stage-") as scratch:
        packed = pack_tar(files.code, Path(scratch) / "code.tar.gz").read_bytes()
        paths = save_configs(plan.job_config, files.train, Path(scratch))
        configs = {path.name: path.read_text(encoding="utf-8") for path in paths}
    unpack = 'mkdir -p -- "$1/code" && tar -xzf - -C "$1/code"'
    done = host.run(
        ["sh", "-c", unpack, "sh", str(folder)],
        timeout_s=COPY_TIMEOUT_S,
        stdin=packed.decode("utf-8", "surrogateescape"),  # as the host encodes it again
    )
    if done.code != 0:
        raise RequirementError(f"--stage: {folder}: {' '.join(done.err.split())}; set remote_job_dir in the profile")
    for name, text in {**configs, "env.sh": files.env_sh}.items():
        host.write(folder / name, text, mode=0o600)
    for name, text in {"payload.sh": files.payload_sh, "job.sh": script}.items():
        host.write(folder / name, text, mode=0o644)


def _script(plan: StagePlan, options: StageOptions, files: JobFiles, folder: Path) -> str:
    if plan.profile.executor == "slurm":
        directives, _ = split_script(files.rendered)
        name = f"{options.run_id}-{plan.stage.name}"
        return _SBATCH.format(name=name, folder=folder, directives="\n".join(directives))
    place = folder / "code" / files.code.script
    command = local_command(plan, options, folder / "train.yaml")
    words = [str(place) if word == str(plan.runspec.script_path) else word for word in command]
    return _SHELL.format(folder=folder, command=shlex.join(words))
