"""Whether a profile can be used on its cluster, in Slurm's own words. Submits nothing and leaves nothing behind.

Checks go on after one that failed; those that need what it did not find say that they were not made. What only a node
can tell, as what a container image holds, is not checked.
"""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nemo_runspec.checks import Check, failed, not_checked, passed
from nemo_runspec.errors import RunspecError, SlurmUnreachable
from nemo_runspec.profiles import Profile
from nemo_runspec.slurm import account_check, partition_check, site_check
from nemo_runspec.slurm.hosts import Host, SshHost
from nemo_runspec.slurm.job_script import split_script
from nemo_runspec.slurm.spec import JOB_DIR, JobSpec
from nemo_runspec.submitters import render
from nemo_runspec.submitters.with_nemo_run import check_environment

PROGRAMS = ("sbatch", "squeue", "scancel", "sacct", "scontrol", "sinfo")
TEST_TIMEOUT_S = 120.0
_NO_ACCOUNTING = "accounting storage is disabled"


@dataclass(frozen=True, kw_only=True)
class ClusterRequest:
    """What jobs of a profile would ask: one spec for each partition that it may use.

    `folders`: directories that jobs write, by the name of the setting that says where they are.
    """

    profile: Profile
    host: Host
    specs: tuple[JobSpec, ...]
    folders: Mapping[str, Path]

    @property
    def where(self) -> str:
        """The host's name in sentences."""
        return self.host.host if isinstance(self.host, SshHost) else "this machine"


@dataclass(frozen=True, kw_only=True)
class _Step:
    name: str
    check: Callable[[ClusterRequest], list[Check]]
    needs: tuple[str, ...] = ()
    advice: str = ""


def check_cluster(request: ClusterRequest) -> Iterator[Check]:
    """The checks, each as soon as it is made; what raises is a failed one."""
    unusable: set[str] = set()
    for step in _STEPS:
        if lacking := [name for name in step.needs if name in unusable]:
            found = [not_checked(step.name, f"not checked: it needs {', '.join(lacking)}")]
            unusable.add(step.name)
        else:
            found = _make(step, request)
        if any(check.outcome == "failed" for check in found):
            unusable.add(step.name)
        yield from found


def _make(step: _Step, request: ClusterRequest) -> list[Check]:
    try:
        return step.check(request)
    except SlurmUnreachable as error:
        return [failed(step.name, f"no answer: {error}", step.advice)]
    except RunspecError as error:
        return [failed(step.name, str(error), step.advice)]


def _check_login(request: ClusterRequest) -> list[Check]:
    begin = time.monotonic()
    done = request.host.run(["uname", "-n"], timeout_s=60)
    took = f"answered in {time.monotonic() - begin:.1f} s"
    if isinstance(request.host, SshHost):
        return [passed("login node", f"{request.where} ({done.out.strip()}) {took} by ssh")]
    return [passed("login node", f"this machine ({done.out.strip()})")]


def _check_programs(request: ClusterRequest) -> list[Check]:
    script = 'for name; do command -v "$name" > /dev/null || echo "$name"; done'
    missing = request.host.run(["sh", "-c", script, "sh", *PROGRAMS], timeout_s=60).out.split()
    if missing:
        return [failed("Slurm's programs", f"{request.where}: no {', '.join(missing)} on PATH", _no_programs(request))]
    done = request.host.run(["scontrol", "--version"], timeout_s=60)
    version = done.out.strip() if done.code == 0 else "version not known"
    return [passed("Slurm's programs", f"{version} on {request.where}")]


def _no_programs(request: ClusterRequest) -> str:
    if isinstance(request.host, SshHost):
        return f"set PATH for commands over ssh there (top of ~/.bashrc), then try: ssh {request.where} sbatch -V"
    return 'run this on a login node, or set tunnel = "ssh" and host in the profile'


def _check_controller(request: ClusterRequest) -> list[Check]:
    done = request.host.run(["scontrol", "ping"], timeout_s=60)
    said = " ".join((done.out + done.err).split())
    if done.code == 0 and " is UP" in done.out:
        return [passed("slurmctld", said)]
    return [failed("slurmctld", f"no answer: {said or f'exit code {done.code}'}", "wait, or tell the site")]


def _check_accounting(request: ClusterRequest) -> list[Check]:
    done = request.host.run(["sacct", "-n", "-X", "-S", "now-1minutes"], timeout_s=60)
    if _NO_ACCOUNTING in done.err:
        return [passed("accounting", "not kept here; endings of jobs are taken from the queue and from done.json")]
    if done.code != 0:
        said = " ".join(done.err.split()) or f"exit code {done.code}"
        return [failed("accounting", f"no answer: {said}", "jobs run without it; wait, or tell the site")]
    return [passed("accounting", "sacct answers")]


def _check_submitter(request: ClusterRequest) -> list[Check]:
    if request.profile.submitter == "nemo-run":
        check_environment()
        return [passed("submitter", "nemo-run: its environment is built")]
    _rendered(request, request.specs[0])
    return [passed("submitter", "submitit writes the batch script")]


def _rendered(request: ClusterRequest, spec: JobSpec) -> str:
    with tempfile.TemporaryDirectory(prefix="nemotron-check-") as cache:
        (script,) = render([spec], submitter=request.profile.submitter, cache_dir=Path(cache))
    return script.replace(JOB_DIR, str(next(iter(request.folders.values()))))


def _test_submission(request: ClusterRequest) -> list[Check]:
    return [_test_only(request, spec) for spec in request.specs]


def _test_only(request: ClusterRequest, spec: JobSpec) -> Check:
    profile, name = request.profile, "sbatch --test-only"
    directives, _ = split_script(_rendered(request, spec))
    options = [
        *("--test-only", "--job-name=nemotron-check", "--output=/dev/null"),
        "--requeue" if profile.requeue else "--no-requeue",
        *([f"--signal=B:USR1@{profile.stop_before_end_s}"] if profile.stop_before_end_s else []),
        *([f"--exclude={profile.exclude}"] if profile.exclude else []),
    ]
    script = "\n".join(["#!/bin/bash", *directives, "exit 0", ""])
    done = request.host.run(["sbatch", *options], timeout_s=TEST_TIMEOUT_S, stdin=script)
    said = " ".join(f"{done.out} {done.err}".replace("sbatch: ", "").split())
    place = f"partition {spec.partition}" if spec.partition else "the default partition"
    if done.code == 0:
        return passed(name, f"{place}: {said or 'accepted'}")
    asked = shlex.join(line.removeprefix("#SBATCH ") for line in directives)
    return failed(name, f"{place}: {said or f'exit code {done.code}'}", f"correct the profile; asked was {asked}")


def _check_partitions(request: ClusterRequest) -> list[Check]:
    return partition_check.check_partitions(request.host, request.specs)


def _check_account(request: ClusterRequest) -> list[Check]:
    return account_check.check_account(request.host, account=request.profile.account, qos=request.profile.qos)


def _check_folders(request: ClusterRequest) -> list[Check]:
    return [
        site_check.check_folder(request.host, folder, setting=setting, where=request.where)
        for setting, folder in request.folders.items()
    ]


def _check_container(request: ClusterRequest) -> list[Check]:
    return site_check.check_container(request.host, request.profile.container_image, where=request.where)


def _check_python(request: ClusterRequest) -> list[Check]:
    return [site_check.check_python(request.host, request.profile, request.specs[0].command[0], where=request.where)]


_LOGIN, _PROGRAMS, _CONTROLLER, _ACCOUNTING = "login node", "Slurm's programs", "slurmctld", "accounting"
_STEPS = (
    _Step(name=_LOGIN, check=_check_login, advice="correct host, user, port, identity in the profile"),
    _Step(name=_PROGRAMS, check=_check_programs, needs=(_LOGIN,)),
    _Step(name=_CONTROLLER, check=_check_controller, needs=(_PROGRAMS,), advice="wait, or tell the site"),
    _Step(name=_ACCOUNTING, check=_check_accounting, needs=(_PROGRAMS,), advice="wait, or tell the site"),
    _Step(name="partition", check=_check_partitions, needs=(_CONTROLLER,)),
    _Step(name="account", check=_check_account, needs=(_CONTROLLER, _ACCOUNTING)),
    _Step(name="submitter", check=_check_submitter),
    _Step(name="sbatch --test-only", check=_test_submission, needs=(_CONTROLLER, "submitter")),
    _Step(name="directories", check=_check_folders, needs=(_LOGIN,)),
    _Step(name="container", check=_check_container, needs=(_LOGIN,)),
    _Step(name="python", check=_check_python, needs=(_LOGIN,)),
)
