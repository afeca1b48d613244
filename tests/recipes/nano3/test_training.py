"""The training loop in one process: exact resumption, accumulation, evaluation."""

import shutil
from pathlib import Path

import pytest
import torch
from megatron.core.models.mamba.mamba_model import MambaModel
from tiny_model import SEQ_LENGTH, draw_tokens, tiny_settings

from nemo_runspec.errors import CheckpointError
from nemo_runspec.metrics_log import ENV_METRICS, read_metrics, saved_step
from nemo_runspec.stop import ENV_STOP_FILE, StopRequested
from nemotron.recipes.nano3.distributed import World
from nemotron.recipes.nano3.model import build_model, weights_of
from nemotron.recipes.nano3.optimizer import OptimizerSettings
from nemotron.recipes.nano3.training import (
    Batch,
    BatchReader,
    CheckpointSettings,
    TrainSettings,
    evaluate,
    masked_loss,
    train,
)

TRAIN = TrainSettings(train_iters=6, global_batch_size=4, micro_batch_size=2, eval_iters=2)
OPTIMIZER = OptimizerSettings(lr=5e-3, min_lr=1e-3, warmup_iters=2, decay_iters=2)
ALONE = World(rank=0, size=1)

pytestmark = pytest.mark.usefixtures("world")


def read_batch(numbers: range) -> Batch:
    """Random tokens by number, of which a part by number counts."""
    tokens = torch.stack([draw_tokens(SEQ_LENGTH + 1, seed=number) for number in numbers])
    counts = torch.stack([torch.arange(SEQ_LENGTH) >= number % 7 for number in numbers])
    return Batch(
        tokens=tokens[:, :-1],
        labels=tokens[:, 1:],
        positions=torch.arange(SEQ_LENGTH).expand(len(tokens), SEQ_LENGTH),
        loss_mask=counts.float(),
    )


class Runs:
    """Runs in folders of their own, told by what they logged."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self._monkeypatch = monkeypatch

    def start(
        self, name: str, *, settings: TrainSettings = TRAIN, seed: int = 0, read: BatchReader = read_batch
    ) -> MambaModel:
        """Train in the folder, from its checkpoint if it has one."""
        self._monkeypatch.setenv(ENV_METRICS, str(self.root / name / "metrics.jsonl"))
        model = build_model(tiny_settings(), seed=seed)
        train(
            model,
            read,
            train=settings,
            optimizer=OPTIMIZER,
            checkpoint=CheckpointSettings(save_interval=3),
            output_dir=self.root / name,
            world=ALONE,
        )
        return model

    def copy_after_step_3(self, name: str, to: str) -> Path:
        """What a run leaves that was killed after its third step."""
        shutil.copytree(self.root / name / "checkpoints", self.root / to / "checkpoints")
        last = self.root / to / "checkpoints" / "iter_0000006"
        shutil.rmtree(last)
        return last

    def curve(self, name: str) -> list[tuple[float, float, float]]:
        """Step, loss and gradient norm."""
        rows = read_metrics(self.root / name / "metrics.jsonl")
        return [(row["step"], row["loss"], row["grad_norm"]) for row in rows]

    def losses(self, name: str) -> list[float]:
        return [loss for _, loss, _ in self.curve(name)]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(tmp_path, monkeypatch)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(runs: Runs) -> None:
    whole = runs.start("whole")
    runs.copy_after_step_3("whole", "killed")
    resumed = runs.start("killed", seed=99)
    assert runs.curve("killed") == runs.curve("whole")[3:]
    assert all(torch.equal(value, weights_of(whole)[name]) for name, value in weights_of(resumed).items())


def test_a_run_whose_last_checkpoint_is_torn_goes_on_from_the_one_before(runs: Runs) -> None:
    runs.start("whole")
    last = runs.copy_after_step_3("whole", "killed")
    last.mkdir()
    (last / "state.pt").write_bytes(b"torn")
    runs.start("killed", seed=99)
    assert runs.curve("killed") == runs.curve("whole")[3:]


def test_a_finished_run_started_again_trains_no_further(runs: Runs) -> None:
    first = runs.start("run")
    curve = runs.curve("run")
    again = runs.start("run", seed=99)
    assert runs.curve("run") == curve
    assert torch.equal(weights_of(again)["output_layer.weight"], weights_of(first)["output_layer.weight"])


def test_a_run_that_is_asked_to_stop_saves_a_checkpoint_and_goes_on_exactly(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.start("whole")
    monkeypatch.setenv(ENV_STOP_FILE, str(tmp_path / "stop"))
    (tmp_path / "stop").touch()
    with pytest.raises(StopRequested, match="after step 1"):
        runs.start("stopped")
    assert saved_step(runs.root / "stopped" / "metrics.jsonl") == 1
    monkeypatch.delenv(ENV_STOP_FILE)
    runs.start("stopped", seed=99)
    assert runs.curve("stopped") == runs.curve("whole")


def test_a_stop_asked_for_at_the_last_step_does_not_keep_the_run_from_its_end(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_STOP_FILE, str(tmp_path / "stop"))
    (tmp_path / "stop").touch()
    runs.start("run", settings=TRAIN.model_copy(update={"train_iters": 1}))
    assert len(runs.curve("run")) == 1


def test_each_checkpoint_is_told_to_who_watches(runs: Runs) -> None:
    runs.start("run")
    lines = (runs.root / "run" / "metrics.jsonl").read_text().splitlines()
    assert [line for line in lines if "checkpoint" in line] == ['{"checkpoint": 3}', '{"checkpoint": 6}']


def test_equal_runs_are_equal(runs: Runs) -> None:
    runs.start("one")
    runs.start("two")
    assert runs.curve("one") == runs.curve("two")


def test_each_step_is_logged_with_its_rate_and_speed(runs: Runs) -> None:
    runs.start("run")
    rows = read_metrics(runs.root / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["lr"] for row in rows] == pytest.approx([2.5e-3, 5e-3, 5e-3, 5e-3, 3e-3, 1e-3])
    assert all(row["tokens_per_s"] > 0 for row in rows)


@pytest.mark.parametrize("micro_batch_size", [1, 4])
def test_the_micro_batch_size_does_not_change_the_curve(runs: Runs, micro_batch_size: int) -> None:
    runs.start("two")
    runs.start("other", settings=TRAIN.model_copy(update={"micro_batch_size": micro_batch_size}))
    assert runs.losses("other") == pytest.approx(runs.losses("two"), abs=1e-5)


def test_a_checkpoint_of_another_model_is_refused(runs: Runs) -> None:
    runs.start("run")
    other = build_model(tiny_settings(num_experts=3), seed=0)
    with pytest.raises(CheckpointError, match=r"checkpoints, step 6: weights do not fit the model: .* expected absent"):
        train(
            other,
            read_batch,
            train=TRAIN,
            optimizer=OPTIMIZER,
            checkpoint=CheckpointSettings(),
            output_dir=runs.root / "run",
            world=ALONE,
        )


def test_a_batch_seen_again_and_again_is_learnt(runs: Runs) -> None:
    settings = TrainSettings(train_iters=30, global_batch_size=1, micro_batch_size=1)
    runs.start("run", settings=settings, read=lambda _: read_batch(range(1)))
    losses = runs.losses("run")
    assert losses[0] == pytest.approx(5.7, abs=0.1)  # ln 300, the loss of knowing nothing
    assert losses[-1] < 0.5


def test_evaluation_is_the_mean_over_all_labels_that_count() -> None:
    model = build_model(tiny_settings(), seed=0)
    batch = read_batch(range(8))
    wanted = masked_loss(model, batch).item() / batch.loss_mask.sum().item()
    assert evaluate(model, read_batch, train=TRAIN, world=ALONE) == pytest.approx(wanted, abs=1e-5)


def test_evaluation_changes_nothing() -> None:
    model = build_model(tiny_settings(), seed=0)
    before = {name: value.clone() for name, value in model.named_buffers()}
    evaluate(model, read_batch, train=TRAIN, world=ALONE)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
