from typing import Any

import pytest

from nemo_runspec.errors import ConfigError
from nemotron.recipes.nano3.distributed import World
from nemotron.recipes.nano3.settings import parse_settings
from nemotron.recipes.nano3.training import TrainSettings, micro_batches

GOOD = {"train_iters": 6, "global_batch_size": 4, "micro_batch_size": 2}


@pytest.mark.parametrize("micro", [1, 2, 4, 8])
@pytest.mark.parametrize("num_processes", [1, 2, 4, 8])
def test_the_shares_of_all_processes_are_the_batch_without_overlap(num_processes: int, micro: int) -> None:
    settings = TrainSettings(train_iters=1, global_batch_size=8, micro_batch_size=micro)
    shares = [micro_batches(settings, World(rank=rank, size=num_processes)) for rank in range(num_processes)]
    assert [number for share in shares for part in share for number in part] == list(range(8))
    assert max(len(part) for share in shares for part in share) <= micro


@pytest.mark.parametrize("num_processes", [3, 5, 16])
def test_a_batch_that_cannot_be_shared_evenly_is_refused(num_processes: int) -> None:
    settings = TrainSettings(train_iters=1, global_batch_size=8, micro_batch_size=8)
    with pytest.raises(
        ConfigError, match=rf"global_batch_size = 8 cannot be shared by {num_processes} processes; make"
    ):
        micro_batches(settings, World(rank=0, size=num_processes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"micro_batch_size": 3}, "global_batch_size = 4 is not a multiple of micro_batch_size = 3"),
        ({"train_iters": 0}, "train_iters = 0: Input should be greater than or equal to 1"),
        ({"eval_iters": 0}, "eval_iters = 0: Input should be greater than or equal to 1"),
        ({"steps": 5}, "steps is unknown; remove it"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_settings(TrainSettings, {**GOOD, **changes}, origin="train.yaml")
