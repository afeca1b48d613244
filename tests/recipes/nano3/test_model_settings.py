from typing import Any

import pytest
from tiny_model import MODEL, tiny_settings

from nemo_runspec.errors import ConfigError
from nemotron.recipes.nano3.model import ModelSettings, build_transformer_config
from nemotron.recipes.nano3.settings import parse_settings


def refusal(changes: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_settings(ModelSettings, {**MODEL, **changes}, origin="train.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hybrid_pattern": "MEX-"}, "hybrid_pattern has '-X'; allowed: M, * and E"),
        ({"hybrid_pattern": ""}, "hybrid_pattern = '': String should have at least 1 character"),
        ({"router_topk": 5}, "router_topk = 5 is more than num_experts = 4"),
        ({"num_attention_heads": 3, "num_query_groups": 2}, "num_attention_heads = 3 is not a multiple of num_query"),
        ({"mamba_num_heads": 3}, "mamba_num_heads = 3 is not a multiple of mamba_num_groups"),
        ({"hidden_size": 0}, "hidden_size = 0: Input should be greater than or equal to 1"),
        ({"hidden_size": "wide"}, "hidden_size = 'wide': Input should be a valid integer"),
        ({"kv_channels": 1.5}, "kv_channels = 1.5: Input should be a valid integer"),
        ({"router_scaling": 0.0}, "router_scaling = 0.0: Input should be greater than 0"),
        ({"expert_bias_rate": -1}, "expert_bias_rate = -1: Input should be greater than or equal to 0"),
        ({"seq_length": 1}, "seq_length = 1: Input should be greater than or equal to 2"),
        ({"num_layers": 3}, "num_layers is unknown; remove it"),
    ],
)
def test_an_impossible_model_is_refused_by_field_and_value(changes: dict[str, Any], said: str) -> None:
    assert said in refusal(changes)


def test_a_refusal_names_the_file_and_every_problem_in_one_line() -> None:
    message = refusal({"hidden_size": 0, "seq_length": "x"})
    assert message.startswith("train.yaml: hidden_size = 0: ")
    assert "; seq_length = 'x': " in message
    assert "\n" not in message


def test_an_absent_field_is_refused_by_name() -> None:
    config = {key: value for key, value in MODEL.items() if key != "num_experts"}
    with pytest.raises(ConfigError, match=r"train\.yaml: num_experts is missing; add it$"):
        parse_settings(ModelSettings, config, origin="train.yaml")


def test_the_run_section_is_none_of_the_settings() -> None:
    parsed = parse_settings(ModelSettings, {**MODEL, "run": {"any": 1}}, origin="train.yaml")
    assert parsed == tiny_settings(vocab_size=None)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        tiny_settings().hidden_size = 64  # type: ignore[misc]  # what is tested


def test_each_symbol_is_a_layer() -> None:
    assert build_transformer_config(tiny_settings(hybrid_pattern="MM*E*")).num_layers == 5
