from pathlib import Path
from urllib.request import urlopen

import pytest
from flow_process import Project
from prefect_server import ask

from nemotron.flows.embedded_server import embedded_server


def test_a_run_appears_on_the_server_that_the_user_has_set(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "server"))
    with embedded_server(tmp_path / "server.log") as url:
        project.env["PREFECT_API_URL"] = url
        done = project.run("--stages", "data_prep_pretrain")
        (run,) = ask(url, "flow_runs/filter", {})
    assert done.returncode == 0, done.stderr
    assert run["name"].startswith("nano3-tiny-")
    assert run["state_name"] == "Completed"
    assert not (project.folder / ".nemotron" / "prefect" / "server.log").exists()


def test_the_server_ends_with_its_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "server"))
    with embedded_server(tmp_path / "server.log") as url:
        assert ask(url, "flow_runs/filter", {}) == []
    with pytest.raises(OSError, match="refused"):
        urlopen(f"{url}/health")
