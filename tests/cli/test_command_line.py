"""Options and overrides count wherever they stand, in every spelling."""

from collections.abc import Sequence

import pytest

from nemo_runspec.cli_context import split_unknown_args
from nemo_runspec.errors import ConfigError
from nemo_runspec.recipe_config import parse_recipe_args
from nemotron.cli.command_line import hoist, take_debug

COMMANDS = {("nano3", "sft"), ("nano3", "data", "prep", "sft"), ("hello", "train")}
SFT = ["nano3", "sft"]


@pytest.mark.parametrize(
    "args",
    [
        "nano3 sft -c tiny -r lab x=1",
        "-c tiny nano3 sft -r lab x=1",
        "-c tiny -r lab x=1 nano3 sft",
        "nano3 -c tiny -r lab x=1 sft",
        "--config=tiny nano3 x=1 sft --run=lab",
        "-ctiny -rlab nano3 sft x=1",
        "--config tiny nano3 --run lab sft x=1",
    ],
)
def test_options_count_before_between_and_after_the_words_of_a_command(args: str) -> None:
    hoisted = hoist(args.split(), COMMANDS)

    asked = parse_recipe_args(hoisted[2:])
    assert hoisted[:2] == SFT
    assert (asked.config, asked.profile, asked.mode, asked.dotlist) == ("tiny", "lab", "run", ["x=1"])


@pytest.mark.parametrize("option", ["-b lab", "-blab", "--batch lab", "--batch=lab", "-b=lab"])
def test_all_spellings_of_an_option_are_the_same(option: str) -> None:
    asked = parse_recipe_args(option.split())

    assert (asked.profile, asked.mode, asked.attached) == ("lab", "batch", False)


def test_what_follows_two_dashes_goes_to_the_script_as_it_is() -> None:
    hoisted = hoist(["nano3", "sft", "-d", "--", "-r", "x", "a=b", "--debug"], COMMANDS)

    asked = parse_recipe_args(hoisted[2:])
    assert asked.passthrough == ["-r", "x", "a=b", "--debug"]
    assert (asked.dry_run, asked.profile, asked.dotlist) == (True, None, [])


def test_debug_is_taken_anywhere_but_behind_two_dashes() -> None:
    assert take_debug(["nano3", "--debug", "sft"]) == (["nano3", "sft"], True)
    assert take_debug(["nano3", "sft", "--", "--debug"]) == (["nano3", "sft", "--", "--debug"], False)


@pytest.mark.parametrize("args", [["runs", "logs", "-f"], ["artifacts", "list"], ["--help"], []])
def test_other_commands_keep_their_words(args: Sequence[str]) -> None:
    assert hoist(args, COMMANDS) == list(args)


def test_an_option_of_a_recipe_command_without_one_is_refused_and_says_which_there_are() -> None:
    with pytest.raises(ConfigError, match=r"-r lab: belongs to a recipe command.*'runs'; have: hello train, nano3"):
        hoist(["-r", "lab", "runs", "list"], COMMANDS)


def test_an_unknown_flag_is_refused_and_says_how_to_mean_it() -> None:
    with pytest.raises(ConfigError, match=r"--train\.lr: unknown.*give train\.lr=1; .*put it after --: -- --train\.lr"):
        parse_recipe_args(["--train.lr", "1"])


def test_a_program_of_ones_own_may_hand_unknown_flags_on() -> None:
    dotlist, passthrough, ctx = split_unknown_args(["a=1", "--fast", "-rlab"])

    assert (dotlist, passthrough, ctx.run) == (["a=1"], ["--fast"], "lab")
