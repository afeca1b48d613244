"""What a config says it needs of the machine (`run.requires`), checked before anything starts."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess

from omegaconf import DictConfig, OmegaConf

from nemo_runspec.errors import RequirementError


ANSWER_TIMEOUT_S = 10.0


def check_requirements(stage: str, job_config: DictConfig) -> None:
    """Raise RequirementError naming the first thing that `run.requires` asks for and this machine lacks."""
    modules = OmegaConf.select(job_config, "run.requires.modules") or []
    num_gpus = int(OmegaConf.select(job_config, "run.requires.gpus") or 0)
    missing = [name for name in modules if not module_exists(name)]
    lacks = [f"the Python package {name!r}" for name in missing]
    if num_gpus and (found := count_gpus()) < num_gpus:
        lacks.append(f"{num_gpus} GPUs (found {found})")
    if lacks:
        raise RequirementError(
            f"{stage}: config {job_config.run.cli.config!r} needs {' and '.join(lacks)}, which this machine lacks; "
            "use -c tiny here, or run it where they are"
        )


def module_exists(name: str) -> bool:
    """Whether `import name` would find a module; parents are imported, the module itself is not."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def count_gpus() -> int:
    """NVIDIA GPUs that nvidia-smi lists; 0 where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    try:
        listing = subprocess.run([program, "-L"], capture_output=True, text=True, check=False, timeout=ANSWER_TIMEOUT_S)
    except subprocess.TimeoutExpired:  # a driver that hangs
        return 0
    return listing.stdout.count("GPU ") if listing.returncode == 0 else 0
