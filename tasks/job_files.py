"""What a stage's job reads: its environment, its train config and the batch script that a submitter renders for it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig, OmegaConf

from nemo_runspec.config import extract_train_config
from nemo_runspec.config.interpolation import resolve_working_directory
from nemo_runspec.execution import build_env_vars
from nemo_runspec.packaging import Package
from nemo_runspec.profiles import profile_table
from nemo_runspec.slurm.job_script import render_env, split_script
from nemo_runspec.slurm.spec import JOB_DIR
from nemo_runspec.submitters import render
from nemotron.tasks.code_snapshot import package_code
from nemotron.tasks.job_request import build_spec, packager_of
from nemotron.tasks.mirroring import wandb_environment

if TYPE_CHECKING:
    from nemotron.tasks.plan import StagePlan
    from nemotron.tasks.stage_options import StageOptions


@dataclass(frozen=True, kw_only=True)
class JobFiles:
    """The files of a job in one directory; `variables` hold secrets. `rendered` is what the submitter wrote."""

    code: Package
    train: DictConfig
    variables: Mapping[str, str]
    payload_sh: str
    rendered: str

    @property
    def env_sh(self) -> str:
        """A shell file that exports the variables."""
        return render_env(self.variables)


def build_job_files(plan: StagePlan, options: StageOptions, env: Mapping[str, str], folder: Path) -> JobFiles:
    """The files of a job in `folder`; writes nothing but NeMo-Run's cache.

    Raises:
        RunspecError: the batch script cannot be rendered.
    """
    spec = build_spec(plan.stage, plan.runspec, plan.profile, options)
    (rendered,) = render([spec], submitter=plan.profile.submitter, cache_dir=options.render_cache)
    rendered = rendered.replace(JOB_DIR, str(folder))
    config = OmegaConf.to_container(extract_train_config(plan.job_config), resolve=False)
    code = package_code(plan.stage.script, packager_of(plan.runspec, plan.profile))
    variables = {
        **env,
        "NEMOTRON_JOB_DIR": str(folder),
        "NEMOTRON_STOP_FILE": str(folder / "stop"),
        "PYTHONPATH": ":".join(str(folder / "code" / place) for place in code.pythonpath),
    }
    train = OmegaConf.create(resolve_working_directory(config, options.directory.absolute()))
    make_sources_absolute(train, plan.runspec.artifacts.sources, options.directory.absolute())
    return JobFiles(
        code=code,
        train=train,
        variables=variables,
        payload_sh=f"{split_script(rendered)[1]}\n",
        rendered=rendered,
    )


def make_sources_absolute(train: DictConfig, keys: Sequence[str], directory: Path) -> None:
    """Have the input files under `keys` named by absolute paths: a job does not start in `directory`."""
    for key in keys:
        entries = OmegaConf.select(train, key)
        raw = OmegaConf.to_container(entries, resolve=False) if isinstance(entries, ListConfig) else []
        assert isinstance(raw, list)
        for position, entry in enumerate(raw):
            path = entry.get("path") if isinstance(entry, Mapping) else entry
            place = f"{key}.{position}.path" if isinstance(entry, Mapping) else f"{key}.{position}"
            if isinstance(path, str) and "${" not in path:
                OmegaConf.update(train, place, str(directory / path))


def job_environment(plan: StagePlan, options: StageOptions) -> dict[str, str]:
    """All variables of a Slurm job, the profile's among them."""
    profile_env = build_env_vars(plan.job_config, profile_table(plan.profile))
    return {
        "OMP_NUM_THREADS": "1",
        **store_access(options),
        **plan.runspec.env,
        **profile_env,
        **script_environment(plan, options),
    }


def store_access(options: StageOptions) -> dict[str, str]:
    """What lets a job reach a store on S3 as this process does; nothing for another store."""
    is_on_s3 = options.store_root.startswith(("s3://", "s3a://"))
    return {name: value for name, value in os.environ.items() if is_on_s3 and name.startswith("AWS_")}


def script_environment(plan: StagePlan, options: StageOptions) -> dict[str, str]:
    """What the script learns from its environment; see `nemo_runspec.artifacts.tracking`."""
    return {
        "NEMO_RUN_DIR": str(plan.work_dir.absolute()),
        "NEMOTRON_STORE": options.store_root,
        "NEMOTRON_RUN_ID": options.run_id,
        "NEMOTRON_STAGE": plan.stage.name,
        "NEMOTRON_FINGERPRINT": plan.fingerprint,
        "NEMOTRON_METRICS": str(plan.work_dir.absolute() / "metrics.jsonl"),
        "NEMOTRON_OUTPUT_NAME": plan.runspec.artifacts.output_name or "",
        "NEMOTRON_INPUTS": json.dumps({slot: f"{ref.name}:{ref.version}" for slot, ref in plan.inputs.items()}),
        **wandb_environment(plan, options),
    }
