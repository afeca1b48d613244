import base64
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from xml.etree import ElementTree

import pytest
from cutting_relay import cutting_relay
from flow_process import wait_until
from live_flow import NUM_LINES, NUM_STEPS, WATCHED_STEPS, seen
from prefect import flow
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_server import ask
from small_recipe import options, write_recipe

from nemo_runspec.errors import StageCancelled, StageFailed
from nemo_runspec.jobs import local
from nemo_runspec.metrics_log import MetricsLog
from nemo_runspec.mirror.metrics import WandbRun, save_wandb_run
from nemotron.flows import live_page as timing
from nemotron.flows.embedded_server import server_command, wait_for_server
from nemotron.flows.live_jobs import spell
from nemotron.flows.live_page import live_page
from nemotron.flows.ui_page import UiPage
from nemotron.tasks import hasty_client
from nemotron.tasks.interrupts import Detached
from nemotron.tasks.job_index import remember_stage
from nemotron.tasks.stage import run_stage

TESTS = Path(__file__).resolve().parent.parent
MAX_PICTURE_BYTES = 60_000


@dataclass(kw_only=True)
class Server:
    """A Prefect server that can be killed and started again at the same address with the same database."""

    folder: Path
    port: int
    stack: ExitStack

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def start(self) -> None:
        log = self.folder / "server.log"
        with socket.create_server(("127.0.0.1", self.port)) as listener:
            command = server_command(listener.fileno())
            environment = {"PREFECT_HOME": str(self.folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
            process = local.start(command, env=environment, log_path=log, inherited_fd=listener.fileno())
        self.stack.callback(local.terminate, process, grace_s=0.0)
        wait_for_server(self.url, log)

    def kill(self) -> None:
        self.stack.pop_all().close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with ExitStack() as stack:
        server = Server(folder=tmp_path_factory.mktemp("server"), port=port, stack=stack)
        server.start()
        yield server


@dataclass(kw_only=True)
class Watched:
    """What was to be seen of a flow run: its pages while it ran, and what is left."""

    while_running: list[dict[str, Any]] = field(default_factory=list)
    pages: list[dict[str, Any]]
    log: list[str]
    states: dict[str, str]
    events: list[dict[str, Any]]
    shown: str


@pytest.fixture(scope="module")
def watched(server: Server, prefect_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """The flow of `live_flow.py`, run once."""
    folder, prefect_api = tmp_path_factory.mktemp("live"), server.url
    environment = {"PREFECT_API_URL": prefect_api, "PREFECT_HOME": str(prefect_home), "PYTHONPATH": str(TESTS)}
    while_running = []
    with (folder / "shown").open("w") as out:
        command = [sys.executable, str(TESTS / "flows" / "live_flow.py"), str(folder)]
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=out, stderr=subprocess.STDOUT)
        while process.poll() is None:
            pages = ask(prefect_api, "artifacts/filter", {"flows": {"name": {"any_": ["live"]}}})
            for step in shown_steps(pages):
                seen(folder, step).touch()
            while_running += pages
            time.sleep(0.1)
    shown = (folder / "shown").read_text()
    assert process.returncode == 0, shown
    pages = ask(prefect_api, "artifacts/filter", {"flows": {"name": {"any_": ["live"]}}})
    run_id = {"any_": [pages[0]["flow_run_id"]]}
    wait_until(lambda: set(task_states(prefect_api, run_id)) == {"Completed", "Reused"}, timeout_s=60)  # told as events
    log = ask(prefect_api, "logs/filter", {"logs": {"flow_run_id": run_id}, "sort": "TIMESTAMP_ASC"})
    found = ask(prefect_api, "events/filter", {"filter": {"event": {"prefix": ["prefect.artifact."]}}})
    return Watched(
        while_running=while_running,
        pages=pages,
        log=[entry["message"] for entry in log],
        states=task_states(prefect_api, run_id),
        events=[event for event in found["events"] if pages[0]["id"] in event["resource"]["prefect.resource.id"]],
        shown=shown,
    )


def task_states(prefect_api: str, run_id: dict[str, list[str]]) -> dict[str, str]:
    """Name → message of the states that tasks of the flow run are in."""
    found = ask(prefect_api, "task_runs/filter", {"flow_runs": {"id": run_id}})
    return {run["state"]["name"]: run["state"]["message"] for run in found}


def shown_steps(pages: list[dict[str, Any]]) -> list[int]:
    """How far those of the pages say the stage is that say it."""
    found = (re.match(rf"running · step (\d+)/{NUM_STEPS} · loss ", page["description"] or "") for page in pages)
    return [int(match[1]) for match in found if match]


def test_while_a_stage_runs_its_page_says_how_far_it_is(watched: Watched) -> None:
    steps = shown_steps(watched.while_running)
    assert set(steps) >= set(WATCHED_STEPS)
    assert steps == sorted(steps)
    page = next(page["data"] for page in watched.while_running if re.search(r"· step 1\d/", page["description"]))
    assert re.search(rf"^`█+░+` \d+% · step 1\d of {NUM_STEPS} · about \d+ s left$", page, re.MULTILINE)
    assert "\n| loss | lr | tokens/s |\n| --- | --- | --- |\n| 0." in page
    assert "| 2.5e\\-05 | 9,120 |\n" in page
    assert re.search(r"^tail -n 100 -F /.*/log\.txt$", page, re.MULTILINE)


def test_the_curve_is_a_small_picture_in_the_page(watched: Watched) -> None:
    last = [page["data"] for page in watched.while_running if "running · step" in page["description"]][-1]
    (data,) = re.findall(r"!\[loss\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", last)
    assert len(data) < MAX_PICTURE_BYTES
    assert ElementTree.fromstring(base64.b64decode(data)).get("aria-label") == "loss by step"


def test_one_page_is_left_of_a_stage_however_often_it_was_renewed(watched: Watched) -> None:
    (page,) = watched.pages
    assert {found["id"] for found in watched.while_running} == {page["id"]}
    assert page["description"] == "reused · total_sequences 1 · small-data:v0, made by run-1"
    assert watched.events == []


def test_a_task_that_reused_an_artifact_says_so(watched: Watched) -> None:
    assert watched.states["Reused"] == "small-data:v0, made by run-1"
    assert set(watched.states) == {"Completed", "Reused"}


def test_what_a_stage_prints_is_once_in_the_run_log_and_once_on_the_terminal(watched: Watched) -> None:
    line = f"data_prep | at step {NUM_STEPS - 10}"
    assert watched.log.count(line) == 1
    assert watched.shown.splitlines().count(line) == 1


def test_the_run_log_says_how_a_stage_began_and_ended(watched: Watched) -> None:
    own = [entry for entry in watched.log if entry.startswith("data_prep: ")]
    assert re.fullmatch(
        r"data_prep: started\ndata_prep: done in \d+\.\d s: small-data:v0\n"
        r"data_prep: started\ndata_prep: reused, made by run-1: small-data:v0",
        "\n".join(own),
    )


def test_a_flood_of_lines_is_cut_short_in_the_run_log_alone(watched: Watched) -> None:
    sent = [entry for entry in watched.log if entry.startswith("data_prep | line ")]
    assert sent[-1] == f"data_prep | line {NUM_LINES - 1}"
    assert len(sent) < NUM_LINES / 2
    assert re.search(r"^data_prep \| … \d+ lines more in /.*/log\.txt$", "\n".join(watched.log), re.MULTILINE)
    assert watched.shown.count("data_prep | line ") == NUM_LINES


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are renewed at once and again and again."""
    monkeypatch.setattr(timing, "LOOK_EVERY_S", 0.2)
    monkeypatch.setattr(timing, "EVERY_S", 0.2)


@contextmanager
def page_of(url: str, folder: Path) -> Iterator[UiPage]:
    """The page of the stage `train` at that server, followed within the block; it works in `folder`."""
    page = UiPage(key="stage-train", flow_run=uuid.uuid4())
    with temporary_settings({PREFECT_API_URL: url}), live_page(page, "train", options(folder)):
        remember_stage(options(folder), "train", folder)
        yield page


def descriptions(url: str, page: UiPage) -> list[str]:
    chosen = {"artifacts": {"flow_run_id": {"any_": [str(page.flow_run)]}}}
    try:
        return [found["description"] for found in ask(url, "artifacts/filter", chosen)]
    except (OSError, URLError):
        return []


@pytest.mark.usefixtures("often")
def test_a_page_goes_on_once_its_server_is_back(server: Server, tmp_path: Path) -> None:
    log = MetricsLog(total=9, path=tmp_path / "metrics.jsonl")
    with page_of(server.url, tmp_path) as page:
        log.log(1, {"loss": 4.0})
        wait_until(lambda: descriptions(server.url, page) == ["running · step 1/9 · loss 4.000"], timeout_s=30)
        server.kill()
        log.log(2, {"loss": 3.0})
        time.sleep(1.0)
        server.start()
        wait_until(lambda: "step 2/9" in "".join(descriptions(server.url, page)), timeout_s=30)
    assert len(descriptions(server.url, page)) == 1


@pytest.mark.usefixtures("often")
def test_a_server_that_hangs_does_not_keep_a_stage_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hasty_client, "TIMEOUT_S", 1.0)
    monkeypatch.setattr(hasty_client, "AGAIN_FOR_S", 0.5)
    stage = write_recipe(tmp_path, body="import time; time.sleep(2)")
    with socket.create_server(("127.0.0.1", 0)) as nobody_answers:
        with page_of(f"http://127.0.0.1:{nobody_answers.getsockname()[1]}/api", tmp_path):
            result = run_stage(stage, options(tmp_path), {})
            ended = time.monotonic()
        assert time.monotonic() - ended < 5
    assert str(result.ref) == "small-data:v0"


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    ("error", "word"),
    [
        (StageFailed("train: no <space> left\n    last line"), "failed"),
        (StageCancelled("train: the run was cancelled"), "cancelled"),
        (Detached(), "goes on in the background"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_at_last_a_page_says_what_ended_the_stage(
    server: Server, tmp_path: Path, error: BaseException, word: str
) -> None:
    with pytest.raises(type(error)), page_of(server.url, tmp_path) as page:
        raise error
    assert descriptions(server.url, page) == [word]


def terminate_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("on_cut", [lambda: None, terminate_this_process], ids=["alone", "and a worker's SIGTERM"])
def test_a_cut_connection_does_not_cost_the_last_word(
    server: Server, tmp_path: Path, on_cut: Callable[[], None]
) -> None:
    with (
        cutting_relay(server.url, times=1, on_cut=on_cut) as cut,
        pytest.raises(StageCancelled),
        page_of(cut, tmp_path) as page,
    ):
        raise StageCancelled("train: the run was cancelled")
    assert descriptions(server.url, page) == ["cancelled"]


def test_a_stage_that_a_worker_s_sigterm_ended_is_cancelled_if_its_run_is(server: Server, tmp_path: Path) -> None:
    @flow
    def cancelled() -> list[str]:
        ask(server.url, f"flow_runs/{flow_run.id}/set_state", {"state": {"type": "CANCELLING"}})
        with pytest.raises(SystemExit), page_of(server.url, tmp_path) as page:
            raise SystemExit(143)
        return descriptions(server.url, page)

    with temporary_settings({PREFECT_API_URL: server.url}):
        assert cancelled() == ["cancelled"]


def test_the_reason_wraps_on_a_narrow_page_and_the_end_of_the_log_stays_as_it_is(tmp_path: Path) -> None:
    live = timing.LivePage(page=UiPage(key="x", flow_run=uuid.uuid4()), stage="train", options=options(tmp_path))
    page = live.render(StageFailed("train: no <space> left\n    last  line"))
    assert page.startswith("## train: failed\n\ntrain: no \\<space\\> left\n\n```\n    last  line\n```\n\n")


def test_what_an_earlier_attempt_of_the_run_left_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    remember_stage(options(tmp_path), "train", tmp_path)
    MetricsLog(total=9, path=tmp_path / "metrics.jsonl").log(9, {"loss": 4.0})
    live = timing.LivePage(page=UiPage(key="x", flow_run=uuid.uuid4()), stage="train", options=options(tmp_path))
    live.look()
    assert live.describe(None) == "running"


def test_the_wandb_run_is_linked_as_soon_as_it_is_known(tmp_path: Path) -> None:
    live = timing.LivePage(page=UiPage(key="x", flow_run=uuid.uuid4()), stage="train", options=options(tmp_path))
    remember_stage(options(tmp_path), "train", tmp_path)
    run = WandbRun(server="https://w.example", path="me/flows/r", url="https://w.example/me/flows/runs/r")
    live.look()
    assert "W&B" not in live.render(None)
    save_wandb_run(tmp_path / "metrics.jsonl", run)
    assert f"\n\nW&B: [https://w.example/me/flows/runs/r](<{run.url}>)\n\n" in live.render(None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (11_100, "3 h 5 min"), (200_000, "2 d 7 h")],
)
def test_a_time_is_spelled_in_two_units_at_most(seconds: float, text: str) -> None:
    assert spell(seconds) == text
