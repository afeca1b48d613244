"""RL of the real Nano3 by NeMo-RL: its own GRPO entry point in a child process, on the config's `nemo_rl` section.

Needs GPUs and NeMo-RL's container, and was never run there. NeMo-RL's sources were not at hand either (PyPI holds a
placeholder): what is said of it here comes from its documentation as remembered. Tested is what a stub can show.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from pydantic import Field

from nemo_runspec.artifacts import ModelArtifact
from nemo_runspec.errors import CheckpointError, RequirementError, StageFailed
from nemotron.recipes.nano3.settings import Settings, parse_settings


class NemoRlSettings(Settings):
    """What train.yaml says; `nemo_rl` is NeMo-RL's own config, handed on but for `checkpointing.checkpoint_dir`."""

    backend: Literal["nemo-rl"]
    data_dir: Path
    model_dir: Path
    nemo_rl_entry: Path
    nemo_rl_launcher: list[str] = Field(min_length=1)
    nemo_rl: dict[str, Any]
    output_dir: Path


def align_with_nemo_rl(config: Mapping[str, Any], *, output_dir: Path) -> ModelArtifact:
    """The newest checkpoint after NeMo-RL's run, which goes on from `output_dir/checkpoints` if there is one.

    Raises:
        RequirementError: the entry point or its launcher is not on this machine.
        CheckpointError: the model to start from is not in Hugging Face's format, or no checkpoint was written.
        StageFailed: the entry point exited with another code than 0.
    """
    settings = parse_settings(NemoRlSettings, config, origin="train config")
    entry, checkpoints = settings.nemo_rl_entry, output_dir.absolute() / "checkpoints"
    if not entry.is_file() or shutil.which(settings.nemo_rl_launcher[0]) is None:
        raise RequirementError(f"nemo_rl_entry: {settings.nemo_rl_launcher[0]} {entry} is not here; use its container")
    require_hf_format(settings.model_dir)
    own = {**settings.nemo_rl.get("checkpointing", {}), "checkpoint_dir": str(checkpoints)}
    config_path = output_dir.absolute() / "nemo_rl.yaml"
    output_dir.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create({**settings.nemo_rl, "checkpointing": own}), config_path)
    command = [*settings.nemo_rl_launcher, str(entry), "--config", str(config_path)]
    # Its configs name prompt files relative to the repository's root, the folder above examples/.
    done = subprocess.run(command, cwd=entry.parent.parent, check=False)
    if done.returncode != 0:
        raise StageFailed(f"NeMo-RL exited with code {done.returncode}; its config: {config_path}, its log is above")
    path, step = find_newest(checkpoints)
    return ModelArtifact(path=path, step=step)


def require_hf_format(model_dir: Path) -> None:
    """Raise CheckpointError unless it is a Hugging Face checkpoint, the only kind that NeMo-RL starts from."""
    if not (model_dir / "config.json").is_file():
        raise CheckpointError(
            f"model_dir: {model_dir} has no config.json; NeMo-RL reads Hugging Face checkpoints only. Export it with "
            "Megatron-Bridge (AutoBridge.export_ckpt) and give model_dir=DIR"
        )


def find_newest(checkpoints: Path) -> tuple[Path, int]:
    """The finished checkpoint of the highest step; NeMo-RL writes `tmp_step_N` and renames it to `step_N`."""
    found = {int(name[1]): path for path in checkpoints.glob("*") if (name := re.fullmatch(r"step_(\d+)", path.name))}
    if not found:
        raise CheckpointError(
            f"{checkpoints}: NeMo-RL ended well but left no checkpoint; see checkpointing.save_period"
        )
    return found[max(found)], max(found)
