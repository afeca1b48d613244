"""`nemotron deploy`: what it registers, what it leaves alone and what it refuses."""

from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
import yaml
from mail_server import running_mail_server
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings
from team_server import TeamServer, nemotron, wait_until
from webhook import Webhook, running_webhook

from nemo_runspec.errors import ConfigError
from nemotron.deployments import automations
from nemotron.deployments.deploy import DeployOptions, deploy
from nemotron.deployments.deployment_file import FILE_NAME
from nemotron.flows.nano3 import nano3
from nemotron.flows.nano3_stages import STAGES
from nemotron.flows.parameters import StageParameters

Deploy = Callable[..., list[str]]
ALL = ["nano3/full", "nano3/data-prep", "nano3/pretrain", "nano3/sft", "nano3/rl", "reaper/jobs"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project from whose subdirectory everything was deployed by the command, once."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "env.toml").touch()
    (folder / "deep" / "below").mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def first(team: TeamServer, project: Path) -> list[str]:
    """What the command said."""
    done = nemotron("deploy", cwd=project / "deep" / "below", **team.env)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def run(team: TeamServer, project: Path, first: list[str]) -> Iterator[Deploy]:  # noqa: ARG001
    """Deploys again, in this process: the lines of what is not unchanged."""
    with temporary_settings({PREFECT_API_AUTH_STRING: team.auth}):

        def again(**options: Any) -> list[str]:
            lines = deploy(DeployOptions(**{"project": project, **options}), team.api_url)
            return [line for line in lines if not line.endswith(": unchanged")]

        yield again


@pytest.fixture
def put_back(project: Path, run: Deploy) -> Iterator[None]:
    """In the end all is as the command made it."""
    yield
    (project / "env.toml").write_text("")
    run()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with running_webhook() as found:
        yield found


def of(team: TeamServer, name: str) -> dict[str, Any]:
    found: dict[str, Any] = team.ask(f"deployments/name/{name}")
    return found


def change(team: TeamServer, name: str, **fields: Any) -> None:
    """As somebody does it in the UI."""
    team.ask(f"deployments/{of(team, name)['id']}", fields, method="PATCH")


def own_file(project: Path, *entries: dict[str, Any]) -> Path:
    """A prefect.yaml of these deployments, each with what a deployment must have."""
    path = project / "own.yaml"
    common = {"entrypoint": "nemotron.flows.nano3.nano3", "work_pool": {"name": "nemotron"}}
    path.write_text(yaml.safe_dump({"deployments": [{**common, **entry} for entry in entries]}))
    return path


def test_the_command_registers_everything_with_the_path_of_the_project(
    team: TeamServer, project: Path, first: list[str]
) -> None:
    assert [line.split()[1] for line in first if line.startswith("deployment ")] == [f"{name}:" for name in ALL]
    full = of(team, "nano3/full")
    assert full["parameters"] == {"project_dir": str(project)}
    assert full["work_pool_name"] == "nemotron"
    assert (full["global_concurrency_limit"]["limit"], full["concurrency_options"]["collision_strategy"]) == (
        4,
        "ENQUEUE",
    )
    assert full["parameter_openapi_schema"]["properties"]["config"]["enum"] == ["tiny", "default"]
    assert [(schedule["slug"], schedule["active"]) for schedule in full["schedules"]] == [("nightly", False)]
    assert of(team, "nano3/sft")["parameters"]["pretrain"] == {"enabled": False}


def test_a_second_deploy_changes_nothing_and_says_so(team: TeamServer, project: Path, first: list[str]) -> None:
    before = [of(team, name)["updated"] for name in ALL]
    done = nemotron("deploy", cwd=project, **team.env)
    assert done.stdout.splitlines() == [f"{line.rpartition(':')[0]}: unchanged" for line in first] + [
        "nothing to change"
    ]
    assert [of(team, name)["updated"] for name in ALL] == before


@pytest.mark.usefixtures("first")
def test_what_may_be_left_out_may_also_be_null(team: TeamServer) -> None:
    """As in parameters that were stored with runs, by clients that send all there is."""
    left_out = [name for name, known in signature(nano3.fn).parameters.items() if known.default is None]
    in_a_box = [name for name, known in StageParameters.model_fields.items() if known.default is None]
    parameters = dict.fromkeys(left_out) | {"sft": dict.fromkeys(in_a_box)}
    some_day = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2099-01-01T00:00:00Z"}}
    deployment = team.ask("deployments/name/nano3/full")["id"]
    made = team.ask(f"deployments/{deployment}/create_flow_run", {"parameters": parameters, "state": some_day})
    assert len(left_out) == 4
    assert len(in_a_box) == 3
    assert made["parameters"]["sft"] == dict.fromkeys(in_a_box)
    team.ask(f"flow_runs/{made['id']}", method="DELETE")


@pytest.mark.usefixtures("put_back")
def test_what_somebody_changed_in_the_ui_is_named_and_put_back(team: TeamServer, run: Deploy) -> None:
    change(team, "nano3/sft", parameters={"config": "default"}, description="mine")
    line = "deployment nano3/sft: changed (description, parameters)"
    assert run(dry_run=True) == [line, "nothing was changed: --dry-run"]
    assert of(team, "nano3/sft")["description"] == "mine"
    assert run() == [line]
    assert of(team, "nano3/sft")["parameters"]["pretrain"] == {"enabled": False}


@pytest.mark.usefixtures("put_back")
def test_a_schedule_that_somebody_switched_on_stays_on(team: TeamServer, run: Deploy) -> None:
    (schedule,) = of(team, "nano3/full")["schedules"]
    path = f"deployments/{of(team, 'nano3/full')['id']}/schedules/{schedule['id']}"
    team.ask(path, {"active": True}, method="PATCH")
    assert run() == ["nothing to change"]
    change(team, "nano3/full", description="mine")
    run()
    assert of(team, "nano3/full")["schedules"][0]["active"] is True


@pytest.mark.usefixtures("put_back")
def test_only_one_deployment_is_touched_if_one_is_named(team: TeamServer, run: Deploy) -> None:
    change(team, "nano3/sft", description="mine")
    change(team, "nano3/rl", description="mine")
    assert run(only=("nano3/rl",)) == ["deployment nano3/rl: changed (description)"]
    assert of(team, "nano3/sft")["description"] == "mine"


def test_a_name_that_is_not_there_is_refused_with_the_nearest(run: Deploy) -> None:
    with pytest.raises(ConfigError, match=r"--only nano3/stf: not in .* Did you mean 'nano3/sft'\?"):
        run(only=("nano3/stf",))


def test_the_projects_own_file_comes_first(project: Path, run: Deploy) -> None:
    own_file(project, {"name": "mine"}).rename(project / FILE_NAME)
    try:
        assert run(dry_run=True)[0] == "deployment nano3/mine: created"
    finally:
        (project / FILE_NAME).unlink()


SECRET = {"sft": {"overrides": ["run.env.env_vars.HF_TOKEN=hf_canary"]}}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"config": "huge"}, "config"),
    ({"sft": {"nodes": 0}}, "0 is less than the minimum of 1"),
    ({"stf": {}}, "stf"),
    ({"sft": {"overides": []}}, "overides"),
    ({"approve_before": ["sfd"]}, "sfd"),
    ({"profile": "no-such"}, "profile 'no-such' not found"),
    ({"sft": {"overrides": ["train.train_itres=5"]}}, "did you mean 'train.train_iters'?"),
    ({"sft": {"overrides": ["train.train_iters=many"]}}, "'many'"),
    ({"sft": {"config": "no-such"}}, "no-such"),
    (SECRET, "sft.overrides.run.env.env_vars.HF_TOKEN is named like a secret"),
]


@pytest.mark.parametrize(("parameters", "says"), REFUSED)
def test_parameters_that_runs_would_be_refused_for_are_refused_before_anything_is_registered(
    team: TeamServer, project: Path, run: Deploy, parameters: dict[str, Any], says: str
) -> None:
    file = own_file(project, {"name": "good"}, {"name": "bad", "parameters": parameters})
    with pytest.raises(ConfigError) as refused:
        run(file=file)
    message = str(refused.value)
    assert message.startswith("deployment nano3/bad: ")
    assert says.lower() in message.lower()
    assert "hf_canary" not in message
    assert len(message.splitlines()) == 1
    with pytest.raises(HTTPError, match="404"):
        of(team, "nano3/good")


ENTRIES: list[tuple[dict[str, Any], str]] = [
    ({"name": "bad", "enrypoint": "x"}, "deployment bad: enrypoint = 'x': .* Did you mean 'entrypoint'?"),
    ({"name": "bad", "entrypoint": "nemotron.flows.nano3.nano4"}, "deployment bad: entrypoint = .*nano4"),
    ({"name": "bad", "entrypoint": "json.dumps"}, "deployment bad: entrypoint = .*not a flow"),
    ({"name": "bad", "schedules": [{"slug": "s", "cron": "61 * * * *"}]}, "deployment bad: schedules.0"),
    ({"name": "bad", "schedules": [{"slug": "s", "rrule": "FREQ=SOMETIMES"}]}, "deployment bad: schedules.0"),
    ({"name": "bad", "schedules": [{"slug": "s"}]}, "expected one of cron, rrule and interval"),
    ({"name": "bad", "concurrency_limit": {"limit": 0}}, "concurrency_limit.limit = 0"),
    (
        {"name": "bad", "schedules": [{"slug": "s", "cron": "1 * * * *", "parameters": {"config": "huge"}}]},
        "deployment nano3/bad, schedule s: .*huge",
    ),
    ({"name": "bad", "description": "{{ $NO_SUCH_VARIABLE }}"}, r"\$NO_SUCH_VARIABLE }}: the variable is not set"),
]


@pytest.mark.parametrize(("entry", "says"), ENTRIES)
def test_a_deployment_that_is_not_what_it_should_be_is_refused(
    project: Path, run: Deploy, entry: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        run(file=own_file(project, entry))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "not YAML"),
        ("", "expected deployments"),
        ("deployments: []", "expected deployments"),
        ("deployments: [5]", "expected a mapping"),
    ],
)
def test_a_file_that_is_none_is_refused(project: Path, run: Deploy, text: str, says: str) -> None:
    file = project / "own.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says):
        run(file=file)


def test_what_this_machine_lacks_is_a_note(project: Path, run: Deploy) -> None:
    off = {name: {"enabled": False} for name in STAGES if name != "pretrain"}
    file = own_file(project, {"name": "big", "parameters": {"config": "default", **off}})
    note, *lines = run(file=file, dry_run=True)
    assert note.startswith("note: deployment nano3/big: on this machine: pretrain: config 'default' needs ")
    assert "deployment nano3/big: created" in lines


def test_without_a_server_it_is_refused_in_a_line(project: Path) -> None:
    done = nemotron("deploy", cwd=project)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no Prefect API is configured; ")


def test_a_wrong_password_is_refused_in_a_line(team: TeamServer, project: Path) -> None:
    done = nemotron("deploy", cwd=project, **team.env | {"PREFECT_API_AUTH_STRING": "a:b"})
    assert (done.returncode, done.stderr) == (2, f"error: Prefect API {team.api_url} answered 401 Unauthorized\n")


def test_an_automation_that_somebody_switched_off_stays_off(team: TeamServer, run: Deploy) -> None:
    by_name = {"automations": {"name": {"any_": [automations.CRASH]}}}
    (found,) = team.ask("automations/filter", by_name)
    team.ask(f"automations/{found['id']}", {"enabled": False}, method="PATCH")
    assert run() == ["nothing to change"]
    (found,) = team.ask("automations/filter", by_name)
    assert found["enabled"] is False
    team.ask(f"automations/{found['id']}", {"enabled": True}, method="PATCH")


@pytest.mark.usefixtures("put_back")
def test_somebody_is_told_of_a_run_that_fails_and_of_one_that_waits(
    team: TeamServer, project: Path, run: Deploy, webhook: Webhook
) -> None:
    (project / "env.toml").write_text(f'[notify]\nurl = "{webhook.url}/token-canary"\n')
    assert run() == [
        "block custom-webhook/nemotron-notify: created",
        *(f"automation {name!r}: created" for name in (automations.FAILED, automations.WAITS, automations.HANGS)),
    ]
    assert run() == ["nothing to change"]
    flow = team.ask("flows/", {"name": "nano3"})["id"]
    for kind in ("PAUSED", "FAILED"):
        made = team.ask("flow_runs/", {"name": "told", "flow_id": flow, "state": {"type": "RUNNING"}})["id"]
        team.ask(f"flow_runs/{made}/set_state", {"state": {"type": kind, "message": "for some reason"}})
    wait_until(lambda: len(webhook.received) == 2)
    told = sorted(webhook.received)
    assert [text.splitlines()[0] for text in told] == ["nano3 told: Failed", "nano3 told: waits for approval"]
    assert "for some reason" in told[0]
    assert "token-canary" not in str(team.ask("automations/filter", {}))


@pytest.mark.usefixtures("put_back")
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_somebody_is_told_by_mail(team: TeamServer, project: Path, run: Deploy) -> None:
    with running_mail_server() as mails:
        url = f"mailto://127.0.0.1:{mails.port}?from=nemotron@lab.example&to=team@lab.example"
        (project / "env.toml").write_text(f'[notify]\nurl = "{url}"\n')
        run()
        flow = team.ask("flows/", {"name": "nano3"})["id"]
        failed = {"type": "FAILED", "message": "for some reason"}
        team.ask("flow_runs/", {"name": "mailed", "flow_id": flow, "state": failed})
        wait_until(lambda: mails.received)
    (mail,) = mails.received
    assert mail["to"] == "team@lab.example"
    assert mail["subject"] == "nano3 mailed: Failed"
    assert "for some reason" in mails.texts()[0]


@pytest.mark.usefixtures("put_back")
def test_without_whom_to_tell_the_notifications_are_removed(
    team: TeamServer, project: Path, run: Deploy, webhook: Webhook
) -> None:
    (project / "env.toml").write_text(f'[notify]\nurl = "{webhook.url}"\n')
    run()
    (project / "env.toml").write_text("")
    names = (automations.FAILED, automations.WAITS, automations.HANGS)
    assert run() == [f"automation {name!r}: removed" for name in names]
    assert [found["name"] for found in team.ask("automations/filter", {})] == [automations.CRASH]


NOTIFY = [
    ('url = "a"\nblock = "b"', "both url and block"),
    ('ulr = "a"', "ulr: no such key"),
    ("url = 3", "expected text"),
    ('url = "nonsense://x"', "nor a URL that Apprise knows"),
    ('url = "${oc.env:NO_SUCH_VARIABLE}"', "the variable is not set"),
    ('block = "slack-webhook/no-such"', "not on the server"),
    ('block = "json/../no-such"', "not on the server"),
]


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("table", "says"), NOTIFY)
def test_nobody_who_could_be_told_is_refused_before_anything_is_changed(
    team: TeamServer, project: Path, run: Deploy, table: str, says: str
) -> None:
    file = own_file(project, {"name": "good"})
    (project / "env.toml").write_text(f"[notify]\n{table}\n")
    with pytest.raises(ConfigError, match=says):
        run(file=file)
    (project / "env.toml").write_text("")
    with pytest.raises(HTTPError, match="404"):
        of(team, "nano3/good")
