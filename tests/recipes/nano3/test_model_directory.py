from pathlib import Path

import pytest
import torch
from megatron.core.models.mamba.mamba_model import MambaModel
from tiny_model import VOCAB_SIZE, draw_tokens, lively_model, logits_of, tiny_settings

from nemo_runspec.errors import CheckpointError
from nemotron.recipes.nano3.model import (
    build_model,
    count_parameters,
    load_model,
    save_model,
    set_weights,
    weights_of,
)

pytestmark = pytest.mark.usefixtures("world")

ROUTER = "decoder.layers.2.mlp.router"


@pytest.fixture(scope="module")
def model() -> MambaModel:
    return lively_model(seed=1)


@pytest.fixture
def folder(model: MambaModel, tokenizer_path: Path, tmp_path: Path) -> Path:
    return save_model(tmp_path / "model", model, tiny_settings(), tokenizer_path)


def test_a_loaded_model_computes_what_the_saved_one_did(model: MambaModel, folder: Path) -> None:
    loaded, settings = load_model(folder)
    tokens = draw_tokens(30).tolist()
    assert settings == tiny_settings()
    assert torch.equal(logits_of(loaded, tokens), logits_of(model, tokens))


def test_a_saved_model_keeps_the_routers_expert_bias(model: MambaModel, tokenizer_path: Path, tmp_path: Path) -> None:
    weights = weights_of(model) | {f"{ROUTER}.expert_bias": torch.tensor([0.1, -0.2, 0.3, 0.0])}
    biased = build_model(tiny_settings(), seed=0)
    set_weights(biased, weights, origin="test")
    loaded, _ = load_model(save_model(tmp_path / "model", biased, tiny_settings(), tokenizer_path))
    assert torch.equal(loaded.state_dict()[f"{ROUTER}.expert_bias"], weights[f"{ROUTER}.expert_bias"])


def test_a_model_directory_has_exactly_these_files(folder: Path, tokenizer_path: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.pt", "tokenizer.json"]
    assert (folder / "tokenizer.json").read_bytes() == tokenizer_path.read_bytes()


def test_saving_again_takes_the_place_of_what_was_there(folder: Path, model: MambaModel, tokenizer_path: Path) -> None:
    (folder / "stray").write_text("")
    save_model(folder, model, tiny_settings(), tokenizer_path)
    assert not (folder / "stray").exists()
    assert [path.name for path in folder.parent.iterdir() if "partial" in path.name] == []


def test_equal_seeds_make_equal_models() -> None:
    one, two, other = (weights_of(build_model(tiny_settings(), seed=seed)) for seed in (3, 3, 4))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["output_layer.weight"], other["output_layer.weight"])


def test_all_experts_count_as_parameters() -> None:
    few, more = (count_parameters(build_model(tiny_settings(num_experts=number), seed=0)) for number in (2, 3))
    assert more - few == 2 * 32 * 32 + 32  # two matrices of an expert, and its row in the router


@pytest.mark.parametrize("missing", ["model.json", "model.pt"])
def test_a_directory_without_all_files_is_refused_by_the_name_of_the_file(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(CheckpointError, match=f"model: no {missing}: not a model directory"):
        load_model(folder)


def test_a_file_is_refused_as_a_model_directory(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="not a model directory"):
        load_model(folder / "tokenizer.json")


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.json", "{"), ("model.json", "{}"), ("model.json", "[]"), ("model.pt", ""), ("model.pt", "no weights")],
)
def test_a_damaged_file_is_refused_by_its_directory(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match="model: damaged: "):
        load_model(folder)


def test_a_truncated_weights_file_is_refused(folder: Path) -> None:
    content = (folder / "model.pt").read_bytes()
    (folder / "model.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="model: damaged: "):
        load_model(folder)


def test_weights_of_another_shape_are_refused_by_the_tensors_name(model: MambaModel) -> None:
    weights = weights_of(model) | {f"{ROUTER}.weight": torch.zeros(5, 32)}
    with pytest.raises(CheckpointError, match=rf"here: .*: {ROUTER}\.weight is \(5, 32\), expected \(4, 32\); use the"):
        set_weights(model, weights, origin="here")


def test_missing_weights_are_refused_by_the_tensors_name(model: MambaModel) -> None:
    weights = {name: value for name, value in weights_of(model).items() if name != f"{ROUTER}.expert_bias"}
    with pytest.raises(CheckpointError, match=rf"{ROUTER}\.expert_bias is absent, expected \(4,\)"):
        set_weights(model, weights, origin="here")


def test_weights_that_the_model_lacks_are_refused_by_the_tensors_name(model: MambaModel) -> None:
    with pytest.raises(CheckpointError, match=r"extra is \(1,\), expected absent"):
        set_weights(model, weights_of(model) | {"extra": torch.zeros(1)}, origin="here")


def test_refused_weights_leave_the_model_as_it_was(model: MambaModel) -> None:
    before = model.state_dict()["output_layer.weight"].clone()
    with pytest.raises(CheckpointError):
        set_weights(model, {"output_layer.weight": torch.zeros(VOCAB_SIZE, 32)}, origin="here")
    assert torch.equal(model.state_dict()["output_layer.weight"], before)
