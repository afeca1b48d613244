"""What `nemotron doctor` says about the installation: Python, this package, its extras and their pins, GPUs, git."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from nemo_runspec.checks import Check, failed, not_checked, passed, warned

PACKAGE = "nemotron-flows"
EXTRAS: Mapping[str, str] = {
    "flows": "pipelines, with Prefect",
    "train": "the tiny recipe, with torch and megatron-core",
    "ray": "RL, with Ray",
    "slurm": "batch scripts, with submitit or NeMo-Run",
    "s3": "artifact stores in S3 buckets",
    "wandb": "the mirror on a W&B server",
}
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([A-Za-z0-9._-]+)['"]""")
_MIN_PYTHON, _NEXT_PYTHON = (3, 11), (3, 14)


def check_python() -> list[Check]:
    """The interpreter's version and place."""
    said = f"{platform.python_version()}, {sys.executable}"
    if _MIN_PYTHON <= sys.version_info[:2] < _NEXT_PYTHON:
        return [passed("Python", said)]
    return [failed("Python", f"{said}; allowed: 3.11 to 3.13", "make the environment with one of these")]


def check_package() -> list[Check]:
    """This package's version and place."""
    import nemotron

    folder = Path(nemotron.__path__[0])
    try:
        return [passed(PACKAGE, f"{importlib.metadata.version(PACKAGE)}, {folder}")]
    except importlib.metadata.PackageNotFoundError:
        return [failed(PACKAGE, f"{folder} is not installed", f"pip install -e {folder.parent.parent}")]


def check_extras() -> list[Check]:
    """Each extra: installed, incomplete, or against its pins."""
    try:
        requirements = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return [not_checked("extras", f"{PACKAGE} is not installed")]
    by_extra: dict[str, list[str]] = {}
    for requirement in requirements:
        if extra := _EXTRA.search(requirement):
            by_extra.setdefault(extra[1], []).append(requirement.partition(";")[0].strip())
    return [judge_extra(name, about, by_extra.get(name, [])) for name, about in EXTRAS.items()]


def judge_extra(extra: str, about: str, requirements: list[str]) -> Check:
    """Whether its requirements, as `prefect==3.8.8`, are installed; a version that is not allowed is a failure."""
    name, pip = f"[{extra}]", f"pip install '{PACKAGE}[{extra}]'"
    versions = {requirement: installed_version(_NAME.findall(requirement)[0]) for requirement in requirements}
    missing = [requirement for requirement, version in versions.items() if version is None]
    wrong = [
        f"{requirement} is needed, {version} is installed"
        for requirement, version in versions.items()
        if version is not None and not is_allowed(version, requirement)
    ]
    if wrong:
        return failed(name, "; ".join(wrong), pip)
    if missing:
        return warned(name, f"{about}: {', '.join(missing)} not installed", pip)
    shown = ", ".join(f"{_NAME.findall(requirement)[0]} {version}" for requirement, version in versions.items())
    return passed(name, f"{about}: {shown}")


def installed_version(distribution: str) -> str | None:
    """Its version, None if it is not installed; it is not imported."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def is_allowed(version: str, requirement: str) -> bool:
    """Whether the requirement takes that version.

    >>> is_allowed("0.151.0", "fastapi<0.151"), is_allowed("2.13.0+cpu", "torch==2.13.0")
    (False, True)
    """
    clauses = re.findall(r"(==|>=|<=|<|>|!=)\s*([0-9][0-9.]*)", requirement)
    found = _numbers(version.partition("+")[0])
    compare = {
        "==": lambda wanted: found == wanted,
        "!=": lambda wanted: found != wanted,
        ">=": lambda wanted: found >= wanted,
        "<=": lambda wanted: found <= wanted,
        "<": lambda wanted: found < wanted,
        ">": lambda wanted: found > wanted,
    }
    return all(compare[sign](_numbers(wanted)) for sign, wanted in clauses)


def check_nemo_run() -> list[Check]:
    """Whether uv is there, which builds NeMo-Run's environment; to ask for that itself would take seconds."""
    if installed_version("uv") is None and shutil.which("uv") is None:
        advice = f"pip install '{PACKAGE}[slurm]', or keep submitter = \"submitit\""
        return [warned("nemo-run", 'submitter = "nemo-run" needs uv, which is not installed', advice)]
    said = 'uv is there; it builds the environment when submitter = "nemo-run" first needs it'
    return [passed("nemo-run", f"{said}, or nemotron doctor --build-nemo-run now")]


def check_gpus() -> list[Check]:
    """What nvidia-smi lists, and whether torch was built for it."""
    from nemotron.tasks.requirements import count_gpus

    num_gpus, torch = count_gpus(), installed_version("torch") or ""
    if num_gpus == 0:
        return [passed("GPUs", "none that nvidia-smi lists; -c tiny runs without")]
    if torch.endswith("+cpu"):
        advice = "install torch's build for CUDA, see pytorch.org/get-started"
        return [warned("GPUs", f"nvidia-smi lists {num_gpus}, torch {torch} uses none of them", advice)]
    return [passed("GPUs", f"nvidia-smi lists {num_gpus}")]


def check_git() -> list[Check]:
    """Whether a run can say from which commit it came."""
    found = shutil.which("git")
    if found is None:
        return [warned("git", "not installed; runs do not record a commit", "install git")]
    return [passed("git", found)]


def _numbers(version: str) -> tuple[int, ...]:
    """The release as numbers without zeros at its end: 2.0 is 2."""
    numbers = [int(part) for part in re.findall(r"\d+", re.split(r"[a-z]", version, maxsplit=1)[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
