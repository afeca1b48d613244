from typing import Any, get_args

import pytest
from pydantic import ValidationError

from nemo_runspec.errors import ConfigError
from nemotron.flows.nano3_stages import STAGES
from nemotron.flows.parameters import StageName, StageParameters, chain_parameters, form_parameters, what_runs

ASKED: dict[str, Any] = {
    "config": "tiny",
    "stages": ("sft", "rl"),
    "overrides": ("sft.train.train_iters=5", "rl.a.b=c=d"),
}


def by_stage(form: dict[str, Any]) -> dict[str, StageParameters]:
    return {name: form[name] for name in STAGES}


def test_the_form_has_the_stages_of_the_chain() -> None:
    assert get_args(StageName) == STAGES


@pytest.mark.parametrize("stages", [(), ("sft", "rl"), ("pretrain",)])
def test_what_a_command_line_asks_comes_back_from_the_form(stages: tuple[str, ...]) -> None:
    asked = ASKED | {"stages": stages}
    back = chain_parameters(by_stage(form_parameters(**asked)))
    assert back == {"stages": stages, "overrides": asked["overrides"], "configs": {}}


def test_a_config_file_is_that_of_each_stage() -> None:
    form = form_parameters(config="my/own.yaml", stages=(), overrides=())
    assert chain_parameters(by_stage(form))["configs"] == dict.fromkeys(STAGES, "my/own.yaml")


def test_nodes_and_time_are_overrides_and_an_override_wins() -> None:
    stage = StageParameters(nodes=2, time="04:00:00", overrides=["run.env.nodes=3"])
    assert stage.all_overrides() == ["run.env.nodes=2", "run.env.time=04:00:00", "run.env.nodes=3"]


def test_no_stage_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="no stage is enabled"):
        chain_parameters({"sft": StageParameters(enabled=False)})


@pytest.mark.parametrize(
    "bad",
    [
        {"nodes": 0},
        {"nodes": "many"},
        {"time": "soon"},
        {"overrides": ["train_iters"]},
        {"overides": []},
        {"enabled": 3},
    ],
)
def test_what_a_stage_cannot_be_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StageParameters.model_validate(bad)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (ASKED, ["tiny", "sft+rl"]),
        (ASKED | {"stages": ()}, ["tiny", ""]),
        (ASKED | {"config": "my/own.yaml", "stages": ()}, ["own", ""]),
    ],
)
def test_a_run_is_named_for_what_runs(asked: dict[str, Any], name: list[str]) -> None:
    assert what_runs(form_parameters(**asked)) == name
