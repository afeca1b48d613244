"""What of the two cluster backends runs without a GPU: data conversion, override checks, refusals, a stub NeMo-RL."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from nemo_runspec.errors import CheckpointError, ConfigError, RequirementError, StageFailed
from nemotron.recipes.nano3 import bridge, nemo_rl

RECIPE_DIR = Path(bridge.__file__).resolve().parent
STUB_ENTRY = """
import sys
from pathlib import Path
from omegaconf import OmegaConf
config = OmegaConf.load(sys.argv[2])
for name in ("step_9", "step_10", "tmp_step_11"):
    (Path(config.checkpointing.checkpoint_dir) / name).mkdir(parents=True)
sys.exit(config.exit_code)
"""


@dataclass
class Scheduler:
    lr_warmup_iters: int = 500


@dataclass
class Container:
    scheduler: Scheduler = field(default_factory=Scheduler)
    dataset_kwargs: dict[str, Any] | None = None


@pytest.fixture
def nemo_rl_config(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text("{}")
    entry = tmp_path / "nemo-rl" / "examples" / "run_grpo.py"
    entry.parent.mkdir(parents=True)
    entry.write_text(STUB_ENTRY)
    return {
        "backend": "nemo-rl",
        "data_dir": str(tmp_path),
        "model_dir": str(tmp_path / "hf"),
        "nemo_rl_entry": str(entry),
        "nemo_rl_launcher": [sys.executable],
        "nemo_rl": {"exit_code": 0},
        "output_dir": str(tmp_path / "out"),
    }


def save_checkpoint(root: Path, step: int) -> Path:
    folder = root / f"iter_{step:07d}"
    folder.mkdir(parents=True)
    (root / bridge.TRACKER).write_text(str(step))
    return folder


def test_a_blend_becomes_three_splits_and_unsets_the_recipes_own(tmp_path: Path) -> None:
    dataset = SimpleNamespace(blend=(["mock"], None), split="9999,8,2")
    bridge.set_blend(dataset, {"train": (["/d/a", "/d/b"], [0.2, 0.8]), "valid": (["/d/v"], [1.0])}, tmp_path)
    assert dataset.blend_per_split == [(["/d/a", "/d/b"], [0.2, 0.8]), (["/d/v"], [1.0]), None]
    assert (dataset.blend, dataset.split) == (None, None)


def test_packed_rows_become_arrays_whose_loss_mask_sits_on_the_predicting_token(tmp_path: Path) -> None:
    from nemotron.recipes.nano3.packing import PackedRow, save_rows

    row = PackedRow(input_ids=[1, 2, 3, 4, 5], loss_mask=[0, 1, 1, 0, 1], seq_start_id=[0, 3])
    save_rows(tmp_path / "train.parquet", [row])
    save_rows(tmp_path / "valid.parquet", [row, row])
    bridge.write_packed(tmp_path, tmp_path)
    assert np.load(tmp_path / "train.npy", allow_pickle=True).tolist() == [
        {"input_ids": [1, 2, 3, 4, 5], "loss_mask": [1, 1, 0, 1, 0], "seq_start_id": [0, 3]}
    ]
    assert len(np.load(tmp_path / "valid.npy", allow_pickle=True)) == 2


def test_known_overrides_pass_also_into_a_plain_dict() -> None:
    bridge.check_overrides(Container(), {"scheduler": {"lr_warmup_iters": 1}, "dataset_kwargs": {"any": 1}}, key="o")


def test_an_unknown_nested_override_is_refused_by_its_key() -> None:
    with pytest.raises(ConfigError, match=r"overrides\.scheduler\.warmup_iters: Scheduler has no such field\. Did you"):
        bridge.check_overrides(Container(), {"scheduler": {"warmup_iters": 1}}, key="overrides")


@pytest.mark.parametrize("inner", ["", "iter_0000020"])
def test_a_pretrained_model_is_found_by_its_root_or_its_latest_iteration(tmp_path: Path, inner: str) -> None:
    save_checkpoint(tmp_path, 20)
    assert bridge.find_root(tmp_path / inner) == tmp_path


def test_a_pretrained_iteration_that_is_not_the_latest_is_refused(tmp_path: Path) -> None:
    older = save_checkpoint(tmp_path, 10)
    save_checkpoint(tmp_path, 20)
    with pytest.raises(CheckpointError, match="no longer the latest"):
        bridge.find_root(older)


def test_rank_0_prepares_a_folder_once(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("a")
    made = [
        bridge.prepare_once(tmp_path / "made", lambda source, to: (to / source.name).write_text("b") and None, source)
        for source in (tmp_path / "source", tmp_path / "other")
    ]
    assert [path.name for path in made[0].iterdir()] == ["source"]


def test_the_default_pretraining_config_needs_a_bridge_container(tmp_path: Path) -> None:
    raw = OmegaConf.to_container(OmegaConf.load(RECIPE_DIR / "stage0_pretrain" / "config" / "default.yaml"))
    assert isinstance(raw, dict)
    config = {str(key): value for key, value in raw.items()} | {"data_dir": str(tmp_path), "output_dir": str(tmp_path)}
    with pytest.raises(RequirementError, match="megatron"):
        bridge.train_with_bridge(config, output_dir=tmp_path, finetune=False)


@pytest.mark.parametrize("stage", ["stage0_pretrain", "stage1_sft"])
def test_the_default_configs_describe_one_model_of_52_layers(stage: str) -> None:
    model = OmegaConf.load(RECIPE_DIR / stage / "config" / "default.yaml").overrides.model
    assert len(model.hybrid_override_pattern) == model.num_layers == 52
    assert (model.hybrid_override_pattern.count("*"), model.hybrid_override_pattern.count("E")) == (6, 23)


def test_nemo_rl_runs_in_a_child_and_its_newest_finished_checkpoint_is_returned(
    nemo_rl_config: dict[str, Any], tmp_path: Path
) -> None:
    artifact = nemo_rl.align_with_nemo_rl(nemo_rl_config, output_dir=tmp_path / "out")
    assert (artifact.path, artifact.step) == (tmp_path / "out" / "checkpoints" / "step_10", 10)


def test_nemo_rl_failing_is_told_with_its_exit_code(nemo_rl_config: dict[str, Any], tmp_path: Path) -> None:
    nemo_rl_config["nemo_rl"] = {"exit_code": 3}
    with pytest.raises(StageFailed, match="NeMo-RL exited with code 3"):
        nemo_rl.align_with_nemo_rl(nemo_rl_config, output_dir=tmp_path / "out")


def test_a_missing_nemo_rl_entry_is_refused(nemo_rl_config: dict[str, Any], tmp_path: Path) -> None:
    nemo_rl_config["nemo_rl_entry"] = "/opt/nowhere/run_grpo.py"
    with pytest.raises(RequirementError, match=r"/opt/nowhere/run_grpo\.py is not here"):
        nemo_rl.align_with_nemo_rl(nemo_rl_config, output_dir=tmp_path / "out")


def test_a_model_that_is_not_in_hugging_faces_format_is_refused(nemo_rl_config: dict[str, Any], tmp_path: Path) -> None:
    nemo_rl_config["model_dir"] = str(tmp_path)
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        nemo_rl.align_with_nemo_rl(nemo_rl_config, output_dir=tmp_path / "out")
