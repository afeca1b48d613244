import re

import pytest

from nemotron.flows.chain import split_overrides
from nemotron.flows.command import main


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
