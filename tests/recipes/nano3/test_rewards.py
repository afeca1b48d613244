import pytest

from nemo_runspec.errors import ConfigError
from nemotron.recipes.nano3.rewards import REWARDS, exact_match, find_reward, number_match


@pytest.mark.parametrize(
    ("given", "wanted", "reward"),
    [
        ("7", "7", 1.0),
        (" 7\n", "7", 1.0),
        ("7", "07", 0.0),
        ("7.", "7", 0.0),
        ("", "7", 0.0),
        ("", "", 1.0),
        ("The Cat", "the cat", 0.0),
    ],
)
def test_exact_match_wants_the_same_text(given: str, wanted: str, reward: float) -> None:
    assert exact_match(given, wanted) == reward


@pytest.mark.parametrize(
    ("given", "wanted", "reward"),
    [
        ("7", "7", 1.0),
        ("It is 3, no: 7.", "7", 1.0),
        ("7, not 3", "7", 0.0),
        ("07", "7", 1.0),
        ("7.50", "7.5", 1.0),
        ("-7", "7", 0.0),
        ("x = -7", "-7", 1.0),
        ("1,234,567", "1234567", 1.0),
        ("-0", "0", 1.0),
        ("seven", "7", 0.0),
        ("", "7", 0.0),
        ("seven", "seven", 0.0),
        ("12345678901234567", "12345678901234568", 0.0),
        ("9" * 400, "8" * 400, 0.0),
        ("0.1000000000000000000001", "0.1", 0.0),
    ],
)
def test_number_match_wants_the_same_last_number(given: str, wanted: str, reward: float) -> None:
    assert number_match(given, wanted) == reward


@pytest.mark.parametrize("name", REWARDS)
def test_a_reward_is_found_by_its_name(name: str) -> None:
    assert find_reward(name, origin="x") is REWARDS[name]


def test_an_unknown_reward_is_refused_with_the_closest_name() -> None:
    with pytest.raises(ConfigError, match=r"^q:1: reward 'numbermatch' not found; .* Did you mean 'number_match'"):
        find_reward("numbermatch", origin="q:1")
