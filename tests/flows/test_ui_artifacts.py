import base64
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from finished_run import PIN, finished_run, mirror
from prefect_server import ask

from nemo_runspec.artifacts import ArtifactStore
from nemotron.flows.report import Report
from nemotron.flows.ui_artifacts import pipeline_page, show_pipeline, show_stage, stage_page

FLOW = Path(__file__).parent / "shown_flow.py"


def run_flow(url: str, home: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PREFECT_API_URL": url, "PREFECT_HOME": str(home)}
    command = [sys.executable, str(FLOW), *args]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def artifacts(prefect_api: str, prefect_home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the server has once the flow has run: key → type, data and description."""
    done = run_flow(prefect_api, prefect_home, str(tmp_path_factory.mktemp("project")))
    assert done.stdout == "well\n", done.stderr
    found = ask(prefect_api, "artifacts/filter", {"flows": {"name": {"any_": ["show"]}}})
    return {artifact["key"]: artifact for artifact in found}


def svg_in(markdown: str) -> str:
    (data,) = re.findall(r"^!\[lineage\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)$", markdown, re.MULTILINE)
    return base64.b64decode(data).decode()


def test_each_stage_and_the_run_have_a_page(artifacts: dict[str, Any]) -> None:
    types = {key: found["type"] for key, found in artifacts.items()}
    assert types == {
        "stage-data-prep-pretrain": "markdown",
        "stage-pretrain": "markdown",
        "wandb-pretrain": "markdown",
        "pipeline": "markdown",
    }


def test_the_page_of_the_run_has_its_stages_lineage_and_report(artifacts: dict[str, Any]) -> None:
    page = artifacts["pipeline"]["data"]
    assert page.splitlines()[0] == "| stage | time | key metric | artifact | W\\&B |"
    assert "## Lineage of nano3\\-pretrain\\-model:v0" in page
    assert "```\nnano3-pretrain-model:v0  ModelArtifact  (pretrain, run-7)\n└── nano3-pretrain-data:v0" in page
    assert re.search(r"^Report: /.*/report\.html$", page, re.MULTILINE)


def test_the_picture_is_part_of_the_page(artifacts: dict[str, Any]) -> None:
    assert ElementTree.fromstring(svg_in(artifacts["pipeline"]["data"])).get("aria-label", "").startswith("Lineage of")
    assert "nano3-pretrain-data:v0" in svg_in(artifacts["stage-data-prep-pretrain"]["data"])


def test_what_is_on_wandb_is_linked(artifacts: dict[str, Any]) -> None:
    assert artifacts["wandb-pretrain"]["data"] == f"[me/flows/nano3\\-pretrain\\-model:v4](<{PIN.run_url}>)"
    assert f"(<{PIN.artifact_url}>)" in artifacts["stage-pretrain"]["data"]


def test_what_cannot_be_shown_is_told_and_fails_nothing(prefect_api: str, prefect_home: Path, tmp_path: Path) -> None:
    done = run_flow(prefect_api, prefect_home, str(tmp_path), "broken")
    assert done.stdout == "well\n", done.stderr
    assert "stage pretrain is not shown in Prefect's UI: " in done.stderr
    assert "run run-7 is not shown in Prefect's UI: " in done.stderr


def test_without_a_flow_run_nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")  # where nobody answers
    pipeline = finished_run(tmp_path)
    show_stage(pipeline.results[0], pipeline.options)
    show_pipeline(pipeline, None)


@pytest.mark.parametrize("name", ["a|b", "`x`", "<script>", "[l](http://x)", "```\nend", "**b**"])
def test_a_name_stays_text(tmp_path: Path, name: str) -> None:
    pipeline = finished_run(tmp_path, source=name)
    page = stage_page(pipeline.results[0], ArtifactStore(pipeline.options.store_root))
    fence, *tree = page[page.index("`" * 3) :].splitlines()
    assert set(fence) == {"`"}
    assert [line for line in tree if line.startswith(fence)] == [tree[-1]]


def test_a_pin_cannot_bring_a_script(tmp_path: Path) -> None:
    pipeline = finished_run(tmp_path)
    mirror(pipeline, PIN.model_copy(update={"artifact_url": "javascript:alert(1)", "run_url": "https://x/ onload=1"}))
    page = pipeline_page(pipeline, ArtifactStore(pipeline.options.store_root), None)
    assert "me/flows/nano3\\-pretrain\\-model:v4 |" in page
    assert "javascript" not in page


def test_a_path_and_a_pin_are_shown_as_they_are(tmp_path: Path) -> None:
    pipeline = finished_run(tmp_path)
    mirror(pipeline, PIN.model_copy(update={"qualified_name": "me/a|b_*c*:v1"}))
    page = pipeline_page(
        pipeline, ArtifactStore(pipeline.options.store_root), Report(html_path=Path("/r/a_b*<c>.html"))
    )
    assert "[me/a\\|b\\_\\*c\\*:v1](<" in page
    assert "\n\nReport: /r/a\\_b\\*\\<c\\>.html\n\n" in page
