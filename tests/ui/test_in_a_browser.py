"""A person starts, watches, retries, cancels and approves runs in Prefect's UI, in a real browser."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from deployed_project import Deployed
from flow_runs import state, wait_for_state
from playwright.sync_api import expect
from prefect_ui import PrefectUi
from team_server import wait_until

from nemotron.flows.nano3_stages import STAGES
from nemotron.flows.parameters import StageParameters

OFF = {"enabled": False}
BOX = ["Enabled", "Config", "Overrides", "Nodes", "Time"]
FEW = ["num_continuations=10", "addition.num_train=100"]
CHAT = '{"messages": [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"}]}\n'


@pytest.fixture
def ui(signed_in: PrefectUi, tell: Callable[[str], None]) -> PrefectUi:
    """The window; its pictures are told when all tests have ended."""
    return replace(signed_in, tell=tell)


def test_the_form_shows_every_parameter_with_its_description_and_its_choices(deployed: Deployed, ui: PrefectUi) -> None:
    ui.open_form("nano3/full")
    ui.picture("form-1-empty")

    schema = deployed.team.ask("deployments/name/nano3/full")["parameter_openapi_schema"]["properties"]
    boxes = {stage: [stage, *BOX] for stage in STAGES}
    assert ui.fields() == [label for name in by_position(schema) for label in boxes.get(name, [name])]
    text = ui.page.locator("form").inner_text()
    assert [name for name, field in schema.items() if field["description"] not in text] == []
    assert 'Property is type "None"' not in text
    assert ui.choices("config") == ["tiny", "default"]
    assert ui.choices("approve_before") == list(STAGES)


def by_position(schema: dict[str, dict[str, int]]) -> list[str]:
    return sorted(schema, key=lambda name: schema[name]["position"])


def test_the_form_refuses_a_bad_value_beside_its_field_and_there_is_no_run(deployed: Deployed, ui: PrefectUi) -> None:
    before = deployed.num_runs("full")
    ui.open_form("nano3/full")
    overrides = ui.field("Overrides", of=ui.field("sft"))
    ui.add_items(overrides, "train.train_iters 5")
    ui.page.get_by_role("button", name="Submit").click()

    expect(overrides.get_by_text("'train.train_iters 5' does not match")).to_be_visible()
    expect(ui.page.get_by_text("Validation failed for field 'sft.overrides[0]'")).to_be_visible()
    ui.picture("form-2-bad-value-refused", of=overrides)
    assert deployed.num_runs("full") == before


def test_a_run_that_is_started_by_the_form_is_watched_to_its_end(deployed: Deployed, ui: PrefectUi) -> None:
    ui.open_form("nano3/pretrain")
    ui.choose("config", "tiny")
    ui.field("profile").get_by_role("textbox").fill("local")
    ui.field("Enabled", of=ui.field("data_prep_pretrain")).get_by_role("switch").click()
    overrides = ui.field("Overrides", of=ui.field("pretrain"))
    ui.add_items(overrides, "train.train_iters=20", "train.eval_iters=1")
    ui.field("Nodes", of=ui.field("pretrain")).get_by_role("spinbutton").fill("1")
    config = ui.field("Config", of=ui.field("pretrain")).get_by_role("textbox")
    config.fill("defa")
    config.clear()
    ui.picture("start-1-form-filled-in", of=ui.field("pretrain"))

    run = ui.submit()
    sent = deployed.team.ask(f"flow_runs/{run}")["parameters"]
    assert (sent["profile"], sent.get("run_id"), sent.get("directory")) == ("local", None, None)
    assert StageParameters(**sent["pretrain"]) == StageParameters(
        nodes=1, overrides=["train.train_iters=20", "train.eval_iters=1"]
    )
    ui.watch("Running")
    expect(ui.page.get_by_text("data_prep_pretrain: started", exact=True)).to_be_visible()
    ui.picture("start-2-run-is-running")
    ui.watch("Completed")
    ui.picture("start-3-run-is-completed")

    expect(ui.page.get_by_label("breadcrumb")).to_contain_text(
        f"nano3-tiny-data_prep_pretrain+pretrain-local-{run[:8]}"
    )
    tasks = ui.tab("Task Runs")
    expect(tasks).to_contain_text("(2 Completed)")
    assert deployed.tasks(run) == [("data_prep_pretrain", "Completed"), ("pretrain", "Completed")]
    ui.picture("start-4-task-runs")
    ui.tab("Artifacts").get_by_role("link", name="pipeline").wait_for()
    ui.picture("start-5-artifacts")
    ui.open_artifact(run, "stage-pretrain")
    expect(ui.page.get_by_role("cell", name=re.compile("^valid_loss "))).to_be_visible()
    assert ui.image_width("loss") > 100
    assert ui.image_width("lineage") > 100
    ui.picture("start-6-page-of-the-stage")
    ui.open_artifact(run, "pipeline")
    assert ui.image_width("lineage") > 100
    ui.picture("start-7-page-of-the-run")


def test_a_failed_run_goes_on_by_the_retry_button_once_its_cause_is_gone(
    deployed: Deployed, ui: PrefectUi, tmp_path: Path
) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_text("no chat\n")
    overrides = [*FEW, f"chat_files=[{chats}]"]
    run = deployed.start("nano3/data-prep", data_prep_sft={"overrides": overrides}, data_prep_rl=OFF)
    ui.open_run(run)
    ui.watch("Failed")
    ui.picture("retry-1-run-has-failed")
    ui.open_artifact(run, "stage-data-prep-sft")
    expect(ui.page.get_by_text(f"{chats}:1: not").first).to_be_visible()
    ui.picture("retry-2-why-on-the-page-of-the-stage")

    chats.write_text(CHAT * 2)
    ui.open_run(run)
    ui.menu("Retry")
    ui.picture("retry-3-question")
    ui.page.get_by_role("alertdialog").get_by_role("button", name="Retry").click()
    ui.watch("Completed")

    expect(ui.tab("Task Runs")).to_contain_text("data_prep_pretrain\nCached", use_inner_text=True)
    ui.picture("retry-4-first-stage-is-cached")
    wanted = [("data_prep_pretrain", "Cached"), ("data_prep_sft", "Completed")]
    wait_until(lambda: deployed.tasks(run)[2:] == wanted)


@pytest.fixture
def long_run(deployed: Deployed) -> Iterator[str]:
    """A run that trains for an hour; it ends with the test."""
    overrides = ["train.train_iters=9000"]
    run = deployed.start("nano3/pretrain", data_prep_pretrain={}, pretrain={"overrides": overrides})
    yield run
    if state(deployed.team, run) != "CANCELLED":
        deployed.team.ask(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        wait_for_state(deployed.team, run, "CANCELLED")


def test_a_running_run_is_watched_on_its_live_page_and_cancelled_by_the_menu(
    deployed: Deployed, long_run: str, ui: PrefectUi
) -> None:
    ui.open_artifact(long_run, "stage-pretrain", that_has="![loss]")
    expect(ui.page.get_by_role("heading", name="pretrain: running")).to_be_visible()
    assert ui.image_width("loss") > 100
    ui.picture("cancel-1-live-page")

    ui.open_run(long_run)
    ui.menu("Cancel")
    ui.picture("cancel-2-question")
    ui.page.get_by_role("button", name="Cancel Flow Run").click()
    ui.watch("Cancelled")

    ui.picture("cancel-3-run-is-cancelled")
    assert state(deployed.team, long_run) == "CANCELLED"
    ui.open_artifact(long_run, "stage-pretrain")
    expect(ui.page.get_by_role("heading", name="pretrain: cancelled")).to_be_visible()
    ui.picture("cancel-4-page-of-the-stage")


def test_a_run_that_waits_for_a_yes_is_resumed_by_its_form(deployed: Deployed, ui: PrefectUi) -> None:
    run = deployed.start(
        "nano3/data-prep", data_prep_sft={"overrides": FEW}, data_prep_rl=OFF, approve_before=["data_prep_sft"]
    )
    wait_for_state(deployed.team, run, "PAUSED")
    ui.open_run(run)
    ui.watch("Paused")
    ui.picture("approve-1-run-waits")

    ui.menu("Resume")
    form = ui.page.get_by_role("dialog")
    expect(form).to_contain_text("Run data_prep_sft on tokenizer nano3-pretrain-data:v0?")
    expect(form.get_by_role("switch", name="Go On")).to_be_checked()
    form.get_by_role("textbox", name="Note").fill("looks good")
    ui.picture("approve-2-form-filled-in")
    form.get_by_role("button", name="Resume").click()
    ui.watch("Completed")

    ui.open_run(run)  # the page of a run that has ended shows no more lines
    expect(ui.page.get_by_text("data_prep_sft: approved: looks good", exact=True)).to_be_visible()
    ui.picture("approve-3-run-is-completed")
    assert [name for name, _ in deployed.tasks(run)] == ["data_prep_pretrain", "data_prep_sft"]
