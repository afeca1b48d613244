"""A batch script as submitit writes it; its pickles, its job folder and its watcher are not used."""

from __future__ import annotations

from typing import Any

from nemo_runspec.errors import RequirementError
from nemo_runspec.slurm.spec import JOB_DIR, JobSpec, node_command
from nemo_runspec.submitters.script_text import (
    CONTAINER_JOB_DIR,
    container_mounts,
    drop_directives,
    join,
    tasks_per_node,
)


def render_with_submitit(spec: JobSpec) -> str:
    """The batch script: directives, setup lines, and one srun, which takes the shell's place.

    Raises:
        RequirementError: submitit is not installed.
    """
    try:
        # What SlurmExecutor writes its file with; the executor itself wants srun on this machine.
        from submitit.slurm.slurm import _make_sbatch_string
    except ImportError as error:
        raise RequirementError("submitit is not installed; pip install 'nemotron-flows[slurm]'") from error
    text = _make_sbatch_string(
        command=f"exec {join([*_srun(spec), *node_command(spec)])}",
        folder=JOB_DIR,
        use_srun=False,
        stderr_to_stdout=True,
        setup=list(spec.setup_lines) or None,
        additional_parameters=_more_options(spec),
        nodes=spec.nodes,
        ntasks_per_node=tasks_per_node(spec),
        gpus_per_node=spec.gpus_per_node or None,
        cpus_per_task=spec.cpus_per_task,
        mem=spec.mem,
        account=spec.account,
        partition=spec.partition,
        qos=spec.qos,
        constraint=spec.constraint,
        nodelist=spec.nodelist,
        exclude=spec.exclude,
        exclusive=spec.exclusive or None,
    )
    return drop_directives(text if spec.time_limit else _drop_time(text))


def _more_options(spec: JobSpec) -> dict[str, Any]:
    """What submitit has no parameter for: any option of sbatch, and a time that is not in minutes."""
    options = {"reservation": spec.reservation, "time": spec.time_limit, **spec.sbatch}
    return {name: value for name, value in options.items() if value is not None and value is not False}


def _drop_time(text: str) -> str:
    """Without a limit of ours the partition's holds; submitit would say 5 minutes."""
    return text.replace("#SBATCH --time=5\n", "", 1)


def _srun(spec: JobSpec) -> list[str]:
    words = ["srun", "--unbuffered", "--kill-on-bad-exit=1"]
    if spec.cpus_per_task:
        # srun(1), 22.05: srun no longer takes it from the job.
        words.append(f"--cpus-per-task={spec.cpus_per_task}")
    if spec.container_image is None:
        return [*words, f"--chdir={JOB_DIR}/code"]
    mounts = [*container_mounts(spec), f"{JOB_DIR}:{CONTAINER_JOB_DIR}"]
    return [
        *words,
        f"--container-image={spec.container_image}",
        f"--container-mounts={','.join(mounts)}",
        f"--container-workdir={CONTAINER_JOB_DIR}/code",
    ]
