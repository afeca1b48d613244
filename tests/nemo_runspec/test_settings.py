import pytest

from nemo_runspec.errors import ConfigError
from nemo_runspec.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STORE", "ENV_FILE", "PROFILE", "POLL_INTERVAL_S"):
        monkeypatch.delenv(f"NEMOTRON_{name}", raising=False)


def test_nothing_is_set_by_default() -> None:
    assert load_settings() == Settings(store=None, env_file=None, profile=None, poll_interval_s=None)


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOTRON_STORE", "/a b/$x")
    monkeypatch.setenv("NEMOTRON_PROFILE", "dev")
    monkeypatch.setenv("NEMOTRON_POLL_INTERVAL_S", "2.5")
    monkeypatch.setenv("NEMOTRON_STAGE", "sft")
    settings = load_settings()
    assert (settings.store, settings.profile, settings.poll_interval_s) == ("/a b/$x", "dev", 2.5)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOTRON_STORE", "")
    assert load_settings().store is None


@pytest.mark.parametrize("value", ["often", "0", "nan"])
def test_a_wrong_variable_is_refused_with_its_value(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("NEMOTRON_POLL_INTERVAL_S", value)
    with pytest.raises(ConfigError, match=f"NEMOTRON_POLL_INTERVAL_S = '{value}'.*correct or unset it"):
        load_settings()
