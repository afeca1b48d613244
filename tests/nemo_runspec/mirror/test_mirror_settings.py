from typing import Any

import pytest

from nemo_runspec.errors import ConfigError
from nemo_runspec.mirror.settings import parse_wandb_settings
from nemo_runspec.mirror.target import ENV_WANDB, WandbTarget, wandb_run_id


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_BASE_URL", "WANDB_ENTITY", ENV_WANDB):
        monkeypatch.delenv(name, raising=False)


def target(**table: Any) -> WandbTarget | None:
    settings = parse_wandb_settings(table, origin="[wandb]")
    return settings.target(pipeline_run="run-1", stage="sft", metrics="/w/metrics.jsonl")


@pytest.mark.parametrize("table", [{}, {"entity": "team"}, {"project": "p", "enabled": False}])
def test_without_a_project_or_switched_off_nothing_is_mirrored(table: dict[str, Any]) -> None:
    assert target(**table) is None


def test_stages_of_a_pipeline_run_are_one_group() -> None:
    found = target(project="p", entity="team")
    assert found is not None
    assert (found.group, found.job_type, found.run_id, found.mode) == ("run-1", "sft", "run-1-sft", "online")


@pytest.mark.parametrize(
    ("said", "in_environment", "mode"),
    [
        ("online", "offline", "offline"),
        ("online", "dryrun", "offline"),
        ("offline", "online", "offline"),
        ("online", "", "online"),
    ],
)
def test_the_environment_can_only_keep_from_sending(
    said: str, in_environment: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", in_environment)
    found = target(project="p", mode=said)
    assert found is not None
    assert found.mode == mode


@pytest.mark.parametrize(("said", "in_environment"), [("online", "disabled"), ("disabled", "online")])
def test_disabled_anywhere_is_disabled(said: str, in_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", in_environment)
    assert target(project="p", mode=said) is None


def test_the_server_is_that_of_the_table_then_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://other/")
    assert parse_wandb_settings({}, origin="").base_url == "http://other"
    assert parse_wandb_settings({"base_url": "http://own/"}, origin="").base_url == "http://own"


def test_the_entity_is_that_of_the_table_then_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_ENTITY", "team")
    found, named = target(project="p"), target(project="p", entity="me")
    assert found is not None
    assert named is not None
    assert (found.entity, named.entity) == ("team", "me")


def test_required_and_offline_is_refused() -> None:
    with pytest.raises(ConfigError) as refusal:
        parse_wandb_settings({"project": "p", "required": True, "mode": "offline"}, origin="[wandb]")
    assert str(refusal.value) == (
        "[wandb].required = true with mode = 'offline', in which nothing is sent while a stage runs; set one of them "
        "otherwise"
    )


def test_required_and_offline_by_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(ConfigError, match=r"required = true with mode = 'offline' \(from WANDB_MODE\), in which"):
        parse_wandb_settings({"project": "p", "required": True}, origin="[wandb]")


@pytest.mark.parametrize("table", [{}, {"project": "p", "enabled": False}])
def test_where_nothing_is_mirrored_required_is_no_contradiction(table: dict[str, Any]) -> None:
    assert not parse_wandb_settings({**table, "required": True, "mode": "offline"}, origin="").is_on


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"enity": "team"}, "[wandb].enity: no such key; allowed: enabled, mode, entity"),
        ({"enity": "team"}, "Did you mean 'entity'?"),
        ({"mode": "onlin"}, "[wandb].mode = 'onlin'"),
        ({"timeout_s": 0}, "[wandb].timeout_s = 0"),
        ({"required": "perhaps"}, "[wandb].required = 'perhaps'"),
    ],
)
def test_what_cannot_be_used_is_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse_wandb_settings(table, origin="[wandb]")
    assert said in str(refusal.value)


@pytest.mark.parametrize("run", ["a/b", "a b", "é", "x" * 200])
def test_a_run_id_is_one_that_wandb_takes(run: str) -> None:
    found = wandb_run_id(run, "data_prep_sft")
    assert len(found) <= 128
    assert not set(found) & set("/\\#?%: é")


def test_a_target_travels_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = target(project="p", tags=["a", "b"])
    assert sent is not None
    monkeypatch.setenv(ENV_WANDB, sent.model_dump_json())
    assert WandbTarget.from_environment() == sent


def test_an_environment_that_cannot_be_understood_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_WANDB, "{}")
    with pytest.raises(ConfigError, match="NEMOTRON_WANDB"):
        WandbTarget.from_environment()
