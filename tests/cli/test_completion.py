import subprocess
import sys
from pathlib import Path

import pytest

from nemo_runspec.artifacts import ArtifactStore, Producer
from nemotron.cli.completion import complete_artifact

PRODUCER = Producer(run_id="run", stage="stage", fingerprint="f0")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with `data`, `data-raw` and `model`."""
    monkeypatch.setenv("NEMOTRON_STORE", str(tmp_path / "store"))
    store = ArtifactStore(tmp_path / "store")
    (tmp_path / "a").touch()
    for name, aliases in (("data", ["best"]), ("data", []), ("data-raw", []), ("model", ["prod"])):
        store.publish(tmp_path / "a", name=name, type="T", metadata={}, producer=PRODUCER, aliases=aliases)
    return store.path


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("incomplete", "offered"),
    [
        ("", ["data", "data-raw", "model"]),
        ("d", ["data", "data-raw"]),
        ("data", ["data", "data-raw", "data:latest", "data:best", "data:v1", "data:v0"]),
        ("m", ["model", "model:latest", "model:prod", "model:v0"]),
        ("data:", ["data:latest", "data:best", "data:v1", "data:v0"]),
        ("data:v", ["data:v1", "data:v0"]),
        ("data:b", ["data:best"]),
        ("x", []),
        ("dat:v", []),
        ("../data:", []),
        ("data:v0:", []),
    ],
)
def test_what_begins_so_is_offered(incomplete: str, offered: list[str]) -> None:
    assert complete_artifact(incomplete) == offered


def test_a_name_without_versions_is_not_offered(root: Path) -> None:
    (root / "artifacts" / "empty" / "versions").mkdir(parents=True)
    assert complete_artifact("e") == []


def test_nothing_is_offered_where_there_is_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOTRON_STORE", str(tmp_path / "none"))
    assert complete_artifact("") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("store", ["~no-such-user/x", "file"])
def test_a_store_that_cannot_be_read_offers_nothing(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("NEMOTRON_STORE", store)
    assert complete_artifact("") == []
    assert capsys.readouterr() == ("", "")


def test_the_projects_store_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.delenv("NEMOTRON_STORE")
    (tmp_path / "project" / ".nemotron").mkdir(parents=True)
    root.rename(tmp_path / "project" / ".nemotron" / "artifacts")
    monkeypatch.chdir(tmp_path / "project")
    assert complete_artifact("mod") == ["model", "model:latest", "model:prod", "model:v0"]


def test_it_needs_no_pydantic() -> None:
    code = "import sys; import nemotron.cli.completion; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
