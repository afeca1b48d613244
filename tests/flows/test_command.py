import re

import pytest

from nemo_runspec.errors import ConfigError
from nemotron.flows.chain import split_overrides
from nemotron.flows.command import main
from nemotron.flows.nano3_stages import new_pipeline


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--stages", "slf"], "unknown stage 'slf'; have: data_prep_pretrain, .* Did you mean 'sft'"),
        (["sfr.a=1"], "unknown stage 'sfr'; have: .* Did you mean 'sft'"),
        (["sft=1"], "'sft=1': expected STAGE.key=value"),
        (["sft.train.train_iters"], "expected STAGE.key=value"),
    ],
)
def test_a_wrong_choice_is_refused_in_one_line(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert re.search(message, shown)


def test_overrides_go_to_the_stage_they_name() -> None:
    split = split_overrides(("sft.train.lr=1", "rl.x=2", "sft.y=a.b=c"), ("sft", "rl"))
    assert split == {"sft": ("train.lr=1", "y=a.b=c"), "rl": ("x=2",)}


@pytest.mark.parametrize("run_id", ["", "a b", "$(x)", "../up", "line\nbreak", "-r", "x" * 101])
def test_a_run_id_that_could_not_be_in_a_jobs_name_is_refused(run_id: str) -> None:
    with pytest.raises(ConfigError, match=r"run_id = .*expected 1 to 100 letters"):
        new_pipeline(config="tiny", run_id=run_id)
