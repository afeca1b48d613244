"""Pretraining and SFT of the real Nano3 by Megatron-Bridge 0.3.1, steered by this recipe's `default` configs.

Needs GPUs and Bridge's container, and never trained: it was checked against the wheel, whose own code, with stand-ins
for transformer_engine and the like, built and validated both configs. Tested are the functions that do not touch
Bridge. Converts no checkpoint to Hugging Face's format. "0.3.1: x.py" below is megatron/bridge/x.py there.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nemo_runspec.artifacts import ModelArtifact
from nemo_runspec.errors import CheckpointError, ConfigError, RequirementError, did_you_mean
from nemotron.recipes.nano3.settings import Settings, parse_settings
from nemotron.recipes.nano3.tokenizer import END_OF_TEXT, FILE_NAME, PAD

if TYPE_CHECKING:
    from nemotron.recipes.nano3.packing import PackedRow

BRIDGE = "megatron.bridge"
TRACKER = "latest_checkpointed_iteration.txt"  # 0.3.1: training/utils/checkpoint_utils.py


class BridgeSettings(Settings):
    """What train.yaml says; `recipe` is `_target_` and its keywords, `overrides` follow Bridge's ConfigContainer."""

    backend: Literal["bridge"]
    recipe: dict[str, Any]
    data_dir: Path
    overrides: dict[str, Any]
    checkpoint: dict[str, Any]
    output_dir: Path


class BridgeSftSettings(BridgeSettings):
    """Besides, the data's `pack_size` and the model to start from: a Bridge checkpoint."""

    pack_size: int
    model_dir: Path


def train_with_bridge(config: Mapping[str, Any], *, output_dir: Path, finetune: bool) -> ModelArtifact:
    """The last checkpoint of a training, which goes on from `output_dir/checkpoints` if it can. Call on all ranks."""
    settings = parse_settings(BridgeSftSettings if finetune else BridgeSettings, config, origin="train config")
    recipe = import_target(str(settings.recipe.get("_target_")))
    container = recipe(**{name: value for name, value in settings.recipe.items() if name != "_target_"})
    if isinstance(settings, BridgeSftSettings):
        container.dataset = build_sft_dataset(container.dataset, settings, output_dir)
        container.model.seq_length = settings.pack_size
        container.checkpoint.pretrained_checkpoint = str(find_root(settings.model_dir))
    else:
        from nemotron.recipes.nano3.indexed_data import load_blend

        set_blend(container.dataset, load_blend(settings.data_dir), output_dir)
    tokenizer = prepare_once(output_dir / "tokenizer", write_hf_tokenizer, settings.data_dir)
    container.tokenizer.tokenizer_model = str(tokenizer)
    apply_overrides(container, {"checkpoint": settings.checkpoint}, key="config")
    apply_overrides(container, settings.overrides, key="overrides")
    container.checkpoint.save = container.checkpoint.load = str(output_dir / "checkpoints")
    container.logger.tensorboard_dir = str(output_dir / "tb_logs")
    # 0.3.1: training/{pretrain,finetune,gpt_step}.py; the step passes what megatron-core's MambaModel.forward takes.
    train = import_target(f"{BRIDGE}.training." + ("finetune.finetune" if finetune else "pretrain.pretrain"))
    train(container, import_target(f"{BRIDGE}.training.gpt_step.forward_step"))
    path, step = find_latest(output_dir / "checkpoints")
    return ModelArtifact(path=path, step=step)


def set_blend(dataset: Any, blend: Mapping[str, tuple[list[str], list[float]]], output_dir: Path) -> None:
    """Train on the blend; its index cache would else go beside the data, which belongs to the artifact store."""
    # megatron-core 0.16.1: datasets/blended_megatron_dataset_config.py, three splits; `blend` and `split` must be None
    dataset.blend_per_split = [blend.get(split) for split in ("train", "valid", "test")]
    dataset.blend = dataset.split = None
    dataset.path_to_cache = str(output_dir / "index-cache")


def build_sft_dataset(squad: Any, settings: BridgeSftSettings, output_dir: Path) -> Any:
    """The dataset config of the packed rows, otherwise as the recipe's SQuAD. 0.3.1 reads .npy, not parquet."""
    packed = prepare_once(output_dir / "packed", write_packed, settings.data_dir)
    specs = import_target(f"{BRIDGE}.data.datasets.packed_sequence.PackedSequenceSpecs")(
        packed_sequence_size=settings.pack_size,
        packed_train_data_path=str(packed / "train.npy"),
        packed_val_data_path=str(packed / "valid.npy"),
        packed_metadata_path=str(packed / "metadata.json"),
    )
    kind = import_target(f"{BRIDGE}.training.config.FinetuningDatasetConfig")
    fields = {field.name: getattr(squad, field.name) for field in dataclasses.fields(kind)}
    fields |= {"dataset_root": str(packed), "seq_length": settings.pack_size, "packed_sequence_specs": specs}
    return kind(**{**fields, "do_test": False})


def write_packed(data_dir: Path, folder: Path) -> None:
    """Our parquet rows as the pickled arrays that Bridge reads. 0.3.1: data/datasets/{packed_sequence,sft}.py."""
    import numpy as np

    from nemotron.recipes.nano3.packing import load_rows

    for split in ("train", "valid"):
        rows = [to_bridge_row(row) for row in load_rows(data_dir / f"{split}.parquet")]
        np.save(folder / f"{split}.npy", np.array(rows, dtype=object), allow_pickle=True)
    (folder / "metadata.json").write_text("[]", encoding="utf-8")  # must be there; used only with pad_cu_seqlens


def to_bridge_row(row: PackedRow) -> dict[str, list[int]]:
    """The row with its loss mask where Bridge wants it: on the token before the learnt one, which predicts it."""
    # 0.3.1: data/datasets/packing_utils.py, fill_packing_strategy; each sequence's last position is dropped later
    return {**dataclasses.asdict(row), "loss_mask": [*row.loss_mask[1:], 0]}


def write_hf_tokenizer(data_dir: Path, folder: Path) -> None:
    """The data's tokenizer.json as a directory for `AutoTokenizer.from_pretrained`."""
    shutil.copyfile(data_dir / FILE_NAME, folder / FILE_NAME)
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT, "pad_token": PAD}
    (folder / "tokenizer_config.json").write_text(json.dumps(described), encoding="utf-8")


def prepare_once(folder: Path, write: Callable[[Path, Path], None], source: Path) -> Path:
    """`folder`, which rank 0 makes by `write(source, scratch)` while the others wait for it on the shared disk."""
    if not folder.is_dir() and os.environ.get("RANK", "0") == "0":
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        write(source, scratch)
        scratch.rename(folder)
    while not folder.is_dir():  # torchrun ends the others when rank 0 fails
        time.sleep(1.0)
    return folder


def apply_overrides(container: Any, overrides: Mapping[str, Any], *, key: str) -> None:
    """Set the fields by Bridge's own function, which also turns text into a torch.dtype and builds `_target_`s."""
    check_overrides(container, overrides, key=key)
    import_target(f"{BRIDGE}.training.utils.omegaconf_utils.apply_overrides")(container, overrides, {})


def check_overrides(config: Any, overrides: Mapping[str, Any], *, key: str) -> None:
    """Refuse a key that is no field of the (nested) dataclass; Bridge would skip it with a warning.

    Raises:
        ConfigError: names the key. 0.3.1: training/utils/omegaconf_utils.py, _apply_overrides.
    """
    names = [field.name for field in dataclasses.fields(config)]
    for name, value in overrides.items():
        if name not in names:
            raise ConfigError(f"{key}.{name}: {type(config).__name__} has no such field.{did_you_mean(name, names)}")
        current = getattr(config, name)
        if isinstance(value, Mapping) and "_target_" not in value and dataclasses.is_dataclass(current):
            check_overrides(current, value, key=f"{key}.{name}")


def find_root(model_dir: Path) -> Path:
    """The directory with the tracker file: `model_dir`, or the one above when `model_dir` is its latest iteration.

    Bridge starts from random weights, without a word, where `pretrained_checkpoint` has none.
    """
    for root in (model_dir, model_dir.parent):
        if (root / TRACKER).is_file() and model_dir in (root, find_latest(root)[0]):
            return root
    raise CheckpointError(f"{model_dir}: not a Bridge checkpoint, or no longer the latest beside its {TRACKER}")


def find_latest(root: Path) -> tuple[Path, int]:
    """The latest iteration's directory and number, by the tracker file."""
    try:
        step = int((root / TRACKER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{root}: no finished Bridge checkpoint: {error}") from error
    return root / f"iter_{step:07d}", step  # 0.3.1: training/utils/checkpoint_utils.py, get_checkpoint_name


def import_target(dotted: str) -> Any:
    """The object of that dotted path.

    Raises:
        RequirementError: its module cannot be imported here.
        ConfigError: the module has no such name, or the path is none.
    """
    module, _, name = dotted.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise RequirementError(f"{dotted}: {error}; run it in a Megatron-Bridge container, or use -c tiny") from error
    except (AttributeError, ValueError) as error:
        raise ConfigError(f"{dotted}: {error}; give the dotted path of a function") from error
