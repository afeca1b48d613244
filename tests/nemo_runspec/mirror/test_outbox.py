"""What waits for a server, and in which order: read from the store alone, without W&B."""

import fcntl
import json
from pathlib import Path

import pytest
from mirrored_store import CHAIN, MirroredStore
from wandb_server.server import WandbServerProcess

from nemo_runspec.artifacts import ArtifactRef
from nemo_runspec.mirror.follower import log_path
from nemo_runspec.mirror.metrics_notes import note_metrics
from nemo_runspec.mirror.outbox import Outbox, find_servers, pending, read_outbox
from nemo_runspec.mirror.pins import WandbPin, add_pin, find_pin
from nemo_runspec.mirror.server import WandbServer
from nemo_runspec.mirror.wanted import want

NOWHERE = WandbServerProcess(url="http://localhost:1", key="k" * 40, entity="us")
ELSEWHERE = WandbServer(base_url="https://elsewhere.example")


@pytest.fixture
def mirror(tmp_path: Path) -> MirroredStore:
    return MirroredStore(folder=tmp_path, server=NOWHERE, project="p")


def pin_of(ref: ArtifactRef, server: str = NOWHERE.url) -> WandbPin:
    return WandbPin(server=server, qualified_name=f"us/p/{ref}", digest="d")


def waiting(mirror: MirroredStore) -> list[str]:
    return [str(record.ref) for record in pending(mirror.store, mirror.wandb)]


def outbox(mirror: MirroredStore, *only: ArtifactRef) -> Outbox:
    return read_outbox(mirror.store, mirror.wandb, only=only)


def test_nothing_waits_in_a_store_that_is_not_there(mirror: MirroredStore) -> None:
    assert waiting(mirror) == []
    assert not mirror.folder.joinpath("store").exists()


def test_what_was_published_without_a_target_does_not_wait(mirror: MirroredStore) -> None:
    mirror.publish("data", mirrored=False)
    assert waiting(mirror) == []


def test_inputs_wait_before_what_was_made_from_them(mirror: MirroredStore) -> None:
    data = mirror.publish("z-data")
    model = mirror.publish("m-model", inputs=[data])
    mirror.publish("a-eval", inputs=[model, data])
    assert waiting(mirror) == ["z-data:v0", "m-model:v0", "a-eval:v0"]


def test_older_versions_of_a_name_wait_before_newer_ones(mirror: MirroredStore) -> None:
    versions = [mirror.publish("data") for _ in range(11)]
    mirror.publish("a-model", inputs=[versions[10]])
    assert waiting(mirror) == [*map(str, versions), "a-model:v0"]


def test_a_pinned_version_waits_no_more(mirror: MirroredStore) -> None:
    data = mirror.publish("data")
    mirror.publish("model", inputs=[data])
    add_pin(mirror.store, data, pin_of(data))
    assert waiting(mirror) == ["model:v0"]


def test_a_pin_on_another_server_does_not_count(mirror: MirroredStore) -> None:
    data = mirror.publish("data")
    add_pin(mirror.store, data, pin_of(data, server=ELSEWHERE.base_url))
    assert waiting(mirror) == ["data:v0"]


def test_there_is_a_pin_for_each_server(mirror: MirroredStore) -> None:
    data = mirror.publish("data")
    here, there = pin_of(data), pin_of(data, server=ELSEWHERE.base_url)
    for pin in (pin_of(data), there, here):
        add_pin(mirror.store, data, pin)
    assert find_pin(mirror.store, data, mirror.wandb) == here
    assert find_pin(mirror.store, data, ELSEWHERE) == there


def test_an_input_without_a_target_goes_where_its_consumer_goes_under_its_own_run(mirror: MirroredStore) -> None:
    data = mirror.publish("data", mirrored=False, stage="prepare")
    model = mirror.publish("model", inputs=[data])
    found, _ = outbox(mirror, model).waiting
    assert found.ref == data
    assert (found.target.entity, found.target.project, found.target.base_url) == ("us", "p", NOWHERE.url)
    assert (found.target.run_id, found.target.group, found.target.job_type) == ("run-1-prepare", "run-1", "prepare")


def test_a_version_that_was_asked_for_later_waits(mirror: MirroredStore) -> None:
    data = mirror.publish("data", mirrored=False)
    want(mirror.store, data, mirror.target("sft"))
    assert waiting(mirror) == ["data:v0"]


def test_what_was_asked_for_in_another_project_waits_there_too(mirror: MirroredStore) -> None:
    data = mirror.publish("data")
    want(mirror.store, data, mirror.target("sft").model_copy(update={"project": "q"}))
    want(mirror.store, data, mirror.target("sft").model_copy(update={"project": "r"}))
    add_pin(mirror.store, data, pin_of(data))
    found = read_outbox(mirror.store, mirror.wandb).waiting
    assert [(str(one.ref), one.target.project) for one in found] == [("data:v0", "q"), ("data:v0", "r")]


def test_what_was_asked_for_on_another_server_waits_there_too(mirror: MirroredStore) -> None:
    data = mirror.publish("data")
    want(mirror.store, data, mirror.target("sft").model_copy(update={"base_url": ELSEWHERE.base_url}))
    assert find_servers(mirror.store) == sorted([ELSEWHERE.base_url, NOWHERE.url])


def test_what_was_asked_for_again_is_noted_once(mirror: MirroredStore) -> None:
    data = mirror.publish("data", mirrored=False)
    for _ in range(3):
        want(mirror.store, data, mirror.target("sft"))
    assert len(list((mirror.folder / "store" / "mirrors" / "wanted" / "data" / "v0").iterdir())) == 1


def test_an_input_that_is_on_the_server_in_another_project_waits_not_again(mirror: MirroredStore) -> None:
    data = mirror.publish("data", mirrored=False)
    mirror.publish("model", inputs=[data])
    add_pin(mirror.store, data, pin_of(data).model_copy(update={"qualified_name": "they/elsewhere/data:v0"}))
    assert waiting(mirror) == ["model:v0"]


def test_there_is_a_pin_for_each_project(mirror: MirroredStore) -> None:
    data = mirror.publish("data")
    first, second = (pin_of(data).model_copy(update={"qualified_name": f"us/{project}/data:v0"}) for project in "pq")
    for pin in (first, second):
        add_pin(mirror.store, data, pin)
    assert find_pin(mirror.store, data, mirror.wandb, target=mirror.target("sft")) == first
    assert find_pin(mirror.store, data, mirror.wandb) == second


def test_only_the_asked_for_and_what_it_was_made_from_wait(mirror: MirroredStore) -> None:
    data = mirror.publish("data")
    other, model = mirror.publish("other"), mirror.publish("model", inputs=[data])
    assert [str(found.ref) for found in outbox(mirror, model).waiting] == ["data:v0", "model:v0"]
    assert [str(found.ref) for found in outbox(mirror, other).waiting] == ["other:v0"]


def test_an_input_that_the_store_lacks_holds_up_nothing(mirror: MirroredStore) -> None:
    data = mirror.publish("data")
    mirror.publish("model", inputs=[data])
    (mirror.folder / "store" / "artifacts" / "data" / "versions" / "v0.json").unlink()
    assert waiting(mirror) == ["model:v0"]


def test_a_damaged_record_is_told_and_holds_up_nothing_else(mirror: MirroredStore) -> None:
    for name in ("data", "other"):
        mirror.publish(name)
    record = mirror.folder / "store" / "artifacts" / "data" / "versions" / "v0.json"
    record.chmod(0o644)
    record.write_text("{")
    found = read_outbox(mirror.store, mirror.wandb)
    assert [str(one.ref) for one in found.waiting] == ["other:v0"]
    assert list(found.damaged) == ["data:v0"]


def test_a_damaged_pin_is_told(mirror: MirroredStore) -> None:
    data = mirror.publish("data")
    mirror.store.add_note("mirrors/wandb/data/v0", {"server": "x"})
    (why,) = outbox(mirror, data).damaged.values()
    assert why == f"data:v0: the note mirrors/wandb/data/v0 in {mirror.store.location} is no pin; remove it"


def test_the_servers_are_those_of_the_targets(mirror: MirroredStore) -> None:
    data = mirror.publish("data")
    plain = mirror.publish("plain", mirrored=False)
    assert find_servers(mirror.store) == find_servers(mirror.store, [data]) == [NOWHERE.url]
    assert find_servers(mirror.store, [plain]) == []


def test_a_slash_at_the_end_of_the_url_makes_no_difference(mirror: MirroredStore) -> None:
    slashed = MirroredStore(
        folder=mirror.folder, server=WandbServerProcess(url=NOWHERE.url + "/", key="k" * 40), project="p"
    )
    slashed.publish("data")
    assert waiting(mirror) == ["data:v0"]


def test_a_chain_waits_in_the_order_of_its_making(mirror: MirroredStore) -> None:
    mirror.publish_chain()
    found = waiting(mirror)
    assert [
        found.index(f"{name}:v0") > max([found.index(f"{one}:v0") for one in needed], default=-1)
        for name, needed, _ in CHAIN
    ] == [True] * 6


def test_metrics_that_the_server_lacks_wait(mirror: MirroredStore) -> None:
    metrics = mirror.folder / "metrics.jsonl"
    metrics.write_text(json.dumps({"step": 1, "loss": 2.0, "time": 0.0}) + "\n")
    mirror.publish("data", metrics=metrics)
    mirror.publish("data", metrics=metrics)
    assert list(read_outbox(mirror.store, mirror.wandb).metrics) == ["metrics of data:v0"]


def test_metrics_that_cannot_be_looked_at_are_told_and_hold_up_nothing(mirror: MirroredStore) -> None:
    mirror.publish("data", metrics=mirror.folder / ("x" * 300))
    found = read_outbox(mirror.store, mirror.wandb)
    assert [str(one.ref) for one in found.waiting] == ["data:v0"]
    assert "File name too long" in found.damaged["metrics of data:v0"]


def test_metrics_that_are_no_text_hold_up_nothing(mirror: MirroredStore) -> None:
    metrics = mirror.folder / "metrics.jsonl"
    metrics.write_bytes(b'\xff\n{"step": 1}\n')
    mirror.publish("data", metrics=metrics)
    assert list(read_outbox(mirror.store, mirror.wandb).metrics) == ["metrics of data:v0"]


@pytest.fixture
def trained(mirror: MirroredStore) -> Path:
    """The metrics of a training without a version."""
    metrics = mirror.folder / "metrics.jsonl"
    metrics.write_text('{"step": 1}\n')
    note_metrics(mirror.store, metrics, mirror.target("sft"))
    return metrics


def test_metrics_without_a_version_wait(mirror: MirroredStore, trained: Path) -> None:
    assert find_servers(mirror.store) == [NOWHERE.url]
    found = read_outbox(mirror.store, mirror.wandb)
    assert {what: target.metrics for what, target in found.metrics.items()} == {
        "metrics of run run-1-sft": str(trained)
    }


def test_metrics_of_an_attempt_that_went_on_in_another_run_wait_for_that(mirror: MirroredStore, trained: Path) -> None:
    note_metrics(mirror.store, trained, mirror.target("sft").model_copy(update={"run_id": "run-2-sft"}))
    assert list(read_outbox(mirror.store, mirror.wandb).metrics) == ["metrics of run run-2-sft"]


def test_metrics_with_a_version_wait_once(mirror: MirroredStore, trained: Path) -> None:
    mirror.publish("data", metrics=trained)
    assert list(read_outbox(mirror.store, mirror.wandb).metrics) == ["metrics of data:v0"]


def test_metrics_that_are_being_sent_wait_not(mirror: MirroredStore, trained: Path) -> None:
    with log_path(trained).open("ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        assert read_outbox(mirror.store, mirror.wandb).metrics == {}


def test_metrics_without_a_version_do_not_wait_where_versions_are_named(mirror: MirroredStore, trained: Path) -> None:
    assert trained.is_file()
    assert outbox(mirror, mirror.publish("data")).metrics == {}


def test_an_attempt_that_goes_on_in_the_same_run_is_noted_once(mirror: MirroredStore, trained: Path) -> None:
    note_metrics(mirror.store, trained, mirror.target("sft"))
    (notes,) = (mirror.folder / "store" / "mirrors" / "metrics").iterdir()
    assert len(list(notes.iterdir())) == 1
