"""What `nemotron env check` looks at for each executor. Nothing is submitted and nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nemotron.recipes
from nemo_runspec.checks import Check, failed, passed
from nemo_runspec.errors import ConfigError
from nemo_runspec.profile_fields import SUPPORTED_EXECUTORS
from nemo_runspec.profiles import Profile
from nemo_runspec.project import find_project
from nemo_runspec.runspec import Runspec, RunspecResources, RunspecRun
from nemo_runspec.slurm.cluster_check import ClusterRequest, check_cluster
from nemo_runspec.slurm.hosts import Host, SshHost
from nemo_runspec.slurm.spec import JobSpec
from nemotron.tasks.job_request import build_spec
from nemotron.tasks.requirements import count_gpus, module_exists
from nemotron.tasks.run_slurm import connect
from nemotron.tasks.stage_options import Stage, StageOptions

# Module → the extra that brings it.
PACKAGES = {"torch": "train", "megatron.core": "train", "tokenizers": "train", "ray": "ray"}
SCRIPT = Path(nemotron.recipes.__file__).parent / "nano3" / "stage0_pretrain" / "train.py"


def check_profile(name: str, profile: Profile) -> Iterator[Check]:
    """The checks for that profile, each as soon as it is made."""
    if profile.executor == "local":
        yield from check_local(profile)
    elif profile.executor == "slurm":
        yield from check_slurm(name, profile)
    else:
        allowed = ", ".join(SUPPORTED_EXECUTORS)
        said = f"executor = {profile.executor!r} is known and not run here; allowed: {allowed}"
        yield failed("executor", said, "choose a profile with one of these")


def check_local(profile: Profile) -> Iterator[Check]:
    """Packages and GPUs of this machine."""
    for module, extra in PACKAGES.items():
        if module_exists(module):
            yield passed(module, "installed")
        else:
            yield failed(module, "not installed", f"pip install 'nemotron-flows[{extra}]'")
    asked, found = profile.gpus_per_node or 0, count_gpus()
    said = f"gpus_per_node = {profile.gpus_per_node}, nvidia-smi lists {found}"
    if asked > found:
        yield failed("GPUs", said, "lower gpus_per_node, use -c tiny, or run it where they are")
    else:
        yield passed("GPUs", said if asked else f"none asked, nvidia-smi lists {found}")


def check_slurm(name: str, profile: Profile) -> Iterator[Check]:
    """The cluster, asked from here or over ssh; a connection that was not there before is closed again."""
    try:
        host = connect(profile)
        was_open = isinstance(host, SshHost) and host.socket_path.exists()
        request = cluster_request(name, profile, host)
    except ConfigError as error:
        yield failed("profile", str(error))
        return
    try:
        yield from check_cluster(request)
    finally:
        if isinstance(host, SshHost) and not was_open:
            host.close()


def cluster_request(name: str, profile: Profile, host: Host) -> ClusterRequest:
    """What jobs of the profile ask, attached and detached, as a stage's jobs would be written."""
    options = StageOptions(run_id="check", profile=name, project_dir=find_project())
    attached = _spec(profile, options)
    detached = _spec(profile, replace(options, detached=True))
    return ClusterRequest(
        profile=profile,
        host=host,
        specs=(attached,) if attached.partition == detached.partition else (attached, detached),
        folders=options.job_folders(profile),
    )


def _spec(profile: Profile, options: StageOptions) -> JobSpec:
    """A stage of no needs of its own, so that the profile's alone count."""
    runspec = Runspec(
        script_path=SCRIPT,
        run=RunspecRun(launch="direct"),
        resources=RunspecResources(nodes=1, gpus_per_node=0),
    )
    return build_spec(Stage(name="check", script=SCRIPT), runspec, profile, options)
