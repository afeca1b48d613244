import logging
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from finished_run import PIN, finished_run, mirror

from nemo_runspec.slurm.ledger import open_attempt, verdict_without_run
from nemo_runspec.slurm.states import Ending
from nemotron.flows.report import find_report, try_report, write_report
from nemotron.flows.run_facts import SACCT_FORMAT
from nemotron.flows.summary import print_summary


class Page(HTMLParser):
    """What a browser makes of a page: its tags, links and texts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_pictures_are_in_the_report_and_beside_it(tmp_path: Path) -> None:
    report = write_report(finished_run(tmp_path))
    assert [path.name for path in report.pictures] == ["curves.png", "lineage.png", "lineage.svg"]
    assert {path.parent for path in report.pictures} == {tmp_path / ".nemotron" / "reports" / "run-7"}
    svg = report.pictures[2].read_text()
    assert svg in report.html_path.read_text()
    assert "nano3-pretrain-model:v0" in svg


def test_the_lineage_is_also_there_as_text(tmp_path: Path) -> None:
    page = Page(write_report(finished_run(tmp_path)).html_path)
    (text,) = [text for text in page.texts if "└──" in text]
    assert text.splitlines()[0] == "nano3-pretrain-model:v0  ModelArtifact  (pretrain, run-7)"


def test_without_wandb_nothing_leads_out_of_the_report(tmp_path: Path) -> None:
    page = Page(write_report(finished_run(tmp_path)).html_path)
    assert [link for link in page.links if not str(link).startswith("data:")] == []
    assert "W&B run" not in page.texts


def test_nothing_from_elsewhere_is_loaded(tmp_path: Path) -> None:
    text = write_report(finished_run(tmp_path)).html_path.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"'<>]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, no address
    assert "url(" not in text


def test_logs_and_what_slurm_knows_are_a_line_to_copy_away(tmp_path: Path) -> None:
    pipeline = finished_run(tmp_path)
    result = pipeline.results[-1]
    attempt = open_attempt(
        Path(result.work_dir), number=1, stage="pretrain", run_id="run-7", profile="lab", fingerprint="f"
    )
    attempt.record_job(12)
    attempt.log_path.touch()
    pipeline.results[-1] = replace(result, jobs=(verdict_without_run(Ending.COMPLETED, 12, ""),))
    page = Page(write_report(pipeline).html_path)
    (block,) = [text for text in page.texts if "sacct" in text]
    assert block.splitlines()[-3:] == [
        "# pretrain",
        f"sacct -j 12 --format={SACCT_FORMAT}",
        f"tail -n 100 -F {attempt.log_path}",
    ]


def test_what_was_mirrored_is_linked(tmp_path: Path) -> None:
    pipeline = finished_run(tmp_path)
    mirror(pipeline)
    page = Page(write_report(pipeline).html_path)
    assert [link for link in page.links if not str(link).startswith("data:")] == [PIN.run_url, PIN.artifact_url]
    assert {PIN.run_path, PIN.qualified_name} <= set(page.texts)


def test_a_pin_cannot_bring_a_script_into_the_report(tmp_path: Path) -> None:
    pipeline = finished_run(tmp_path)
    mirror(pipeline, PIN.model_copy(update={"run_url": "javascript:alert(1)", "run_path": "<script>x</script>"}))
    page = Page(write_report(pipeline).html_path)
    assert "script" not in page.tags
    assert [link for link in page.links if not str(link).startswith("data:")] == [PIN.artifact_url]


@pytest.mark.parametrize("name", ["</svg><script>alert(1)</script>", "</pre><img src=x onerror=alert(1)>", "</title>"])
def test_a_name_cannot_bring_tags_into_the_report(tmp_path: Path, name: str) -> None:
    plain = Page(write_report(finished_run(tmp_path / "plain")).html_path)
    assert Page(write_report(finished_run(tmp_path / "nasty", source=name)).html_path).tags == plain.tags


def test_without_matplotlib_the_report_has_no_png_and_says_so(tmp_path: Path) -> None:
    code = f"""
import sys, pathlib
sys.path.insert(0, {str(Path(__file__).parent)!r})
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "matplotlib" else found(name, *rest)
from finished_run import finished_run
from nemotron.flows.report import write_report
print([path.name for path in write_report(finished_run(pathlib.Path({str(tmp_path)!r}))).pictures])
print("matplotlib" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "['lineage.svg']\nFalse\n"
    assert "pip install 'nemotron-flows[flows]'" in done.stderr


def test_a_report_that_cannot_be_written_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipeline = finished_run(tmp_path)
    (tmp_path / ".nemotron" / "reports").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        assert try_report(pipeline) is None
    assert re.search(r"no report: .*reports", caplog.text)


def test_a_report_is_found_again(tmp_path: Path) -> None:
    pipeline = finished_run(tmp_path)
    assert find_report(pipeline) is None
    assert write_report(pipeline) == find_report(pipeline)


def test_the_summary_says_where_all_of_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = finished_run(tmp_path)
    print_summary(pipeline, write_report(pipeline))
    folder = tmp_path / ".nemotron" / "reports" / "run-7"
    assert capsys.readouterr().out.splitlines()[-4:] == [
        f"report: {folder}/report.html",
        f"curves: {folder}/curves.png",
        f"lineage: {folder}/lineage.png",
        f"lineage: {folder}/lineage.svg",
    ]
