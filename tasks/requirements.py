"""What a config says it needs of the machine (`run.requires`), checked before anything starts."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Mapping

from omegaconf import DictConfig

from nemo_runspec.errors import ConfigError, RequirementError

ANSWER_TIMEOUT_S = 10.0
_EXTRAS = {"torch": "train", "megatron.core": "train", "pyarrow": "train", "tokenizers": "train", "ray": "ray"}
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def check_requirements(stage: str, job_config: DictConfig) -> None:
    """Raise RequirementError naming what `run.requires` asks for and this machine lacks.

    Raises:
        ConfigError: `run.requires` is not what it should be.
    """
    modules, num_gpus = _required(stage, job_config)
    missing = [name for name in modules if not module_exists(name)]
    lacks = [f"the Python package {name!r}" for name in missing]
    if num_gpus and (found := count_gpus()) < num_gpus:
        lacks.append(f"{num_gpus} GPUs (found {found})")
    if lacks:
        raise RequirementError(
            f"{stage}: config {job_config.run.cli.config!r} needs {' and '.join(lacks)}, which this machine lacks; "
            f"{_advice(missing, lacks)}"
        )


def _advice(missing: list[str], lacks: list[str]) -> str:
    """How to get what is missing: by an extra of this package where one has it."""
    extras = dict.fromkeys(_EXTRAS[name] for name in missing if name in _EXTRAS)
    if len(missing) < len(lacks) or any(name not in _EXTRAS for name in missing):
        return "use -c tiny here, or run it where they are"
    return f"pip install 'nemotron-flows[{','.join(extras)}]'"


def _required(stage: str, job_config: DictConfig) -> tuple[list[str], int]:
    requires = job_config.run.get("requires") or {}
    origin = f"{stage}: config {job_config.run.cli.config!r}: run.requires"
    if not isinstance(requires, Mapping):
        raise ConfigError(f"{origin} = {requires!r}; expected a section with modules and gpus")
    modules, num_gpus = requires.get("modules") or [], requires.get("gpus") or 0
    if not isinstance(num_gpus, int) or num_gpus < 0:
        raise ConfigError(f"{origin}.gpus = {num_gpus!r}; expected a whole number, 0 or more")
    if isinstance(modules, str) or not all(isinstance(name, str) and _MODULE.fullmatch(name) for name in modules):
        raise ConfigError(f"{origin}.modules = {modules!r}; expected a list of names, as [megatron.bridge]")
    return list(modules), num_gpus


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
