import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cluster.cluster import Cluster
from cluster.ssh_server import SshServer, short_folder, wait_for_no_connection
from prefect_server import running_server
from typer.testing import CliRunner, Result

from nemo_runspec.errors import ConfigError, RequirementError
from nemo_runspec.profiles import parse_profile
from nemotron.blocks.env_profile import list_documents, prefect_client, save_profile
from nemotron.blocks.prefect_api import ask_prefect
from nemotron.cli import profile_list
from nemotron.cli.env import app, complete_profile
from nemotron.cli.profile_list import BLOCK_TYPE, list_profiles

TOML = """
[base]
executor = "slurm"
account = "llm"
partition = "batch"
[big_one]
extends = "base"
nodes = 4
env_vars = { HF_TOKEN = "hunter2" }
[here]
nproc_per_node = 2
[orphan]
extends = "bsae"
[boat]
executor = "docker"
[wandb]
project = "p"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with an env.toml, without a Prefect API."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "env.toml").write_text(TOML)
    monkeypatch.chdir(folder)
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_API_KEY", "NEMOTRON_ENV_FILE", "NEMOTRON_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("DO_NOT_TRACK", "1")  # or the command sets it for good
    return folder


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_server(tmp_path_factory.mktemp("prefect")) as url:
        yield url


@pytest.fixture
def api(prefect: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:  # noqa: ARG001
    """The server as the configured one, without blocks of profiles before and after; it may be busy for a while."""
    monkeypatch.setenv("PREFECT_API_URL", prefect)
    monkeypatch.setattr(profile_list, "ask_prefect", partial(ask_prefect, timeout_s=30))
    yield prefect
    with prefect_client(prefect) as client:
        for document in list_documents(prefect):
            client.delete_block_document(document.id)


def nemotron(*args: str) -> Result:
    """What `nemotron env …` does; an error of ours is in `exception`."""
    return CliRunner().invoke(app, list(args))


def test_the_list_has_every_profile_and_what_it_is(project: Path) -> None:
    rows = {row.name: row for row in list_profiles().rows}
    assert list(rows) == ["base", "big_one", "here", "orphan", "boat"]
    assert rows["big_one"].summary == "slurm  account=llm partition=batch nodes=4"
    assert rows["big_one"].origin == f"env.toml ({project}/env.toml)"
    assert rows["here"].executor == "local"
    assert rows["orphan"].summary.startswith(
        "unusable: profile 'orphan' extends 'bsae', which is not found; have: base"
    )


def test_the_list_is_printed_as_a_table_or_as_json(project: Path) -> None:
    printed = nemotron("list")
    assert "slurm  account=llm partition=batch nodes=4" in printed.stdout
    document = json.loads(nemotron("list", "--json").stdout)
    assert document["profiles"][2] == {
        "name": "here",
        "origin": f"env.toml ({project}/env.toml)",
        "executor": "local",
        "summary": "local  nproc_per_node=2",
        "shadowed": False,
    }


def test_a_project_without_profiles_says_how_to_make_one(project: Path) -> None:
    (project / "env.toml").unlink()
    printed = nemotron("list")
    assert (printed.exit_code, printed.stdout) == (0, "")
    assert "no profiles; add a table to env.toml" in printed.stderr


def test_a_broken_env_toml_is_a_note_for_the_help_and_an_error_for_the_command(project: Path) -> None:
    (project / "env.toml").write_text("[a\n")
    assert "bad TOML" in list_profiles().notes[0]
    assert isinstance(nemotron("list").exception, ConfigError)


def test_blocks_come_first_and_hide_tables_of_their_name(api: str) -> None:
    save_profile("big_one", parse_profile({"executor": "slurm", "nodes": 8}, origin="test"), url=api)
    rows = [(row.name, row.origin.partition(" (")[0], row.summary, row.shadowed) for row in list_profiles().rows[:3]]
    assert rows == [
        ("big_one", f"block on {api}", "slurm  nodes=8", False),
        ("base", "env.toml", "slurm  account=llm partition=batch", False),
        ("big_one", "env.toml", "slurm  account=llm partition=batch nodes=4", True),
    ]
    assert "hidden by the block" in nemotron("list").stdout
    assert ("big_one", "slurm  nodes=8") in complete_profile("big")


@pytest.mark.usefixtures("api")
def test_a_server_without_blocks_has_none_to_list() -> None:
    found = list_profiles()
    assert (len(found.rows), found.notes) == (5, ())


def test_the_lists_block_type_is_that_of_the_block() -> None:
    from nemotron.blocks.env_profile import EnvProfile

    assert EnvProfile.get_block_type_slug() == BLOCK_TYPE


@pytest.mark.parametrize(
    ("url", "note"),
    [
        ("http://127.0.0.1:9/api", "does not answer: [Errno 111] Connection refused"),
        ("ftp://x", "expected http://HOST:PORT/api"),
    ],
)
@pytest.mark.usefixtures("project")
def test_a_server_that_cannot_be_asked_is_a_note(url: str, note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    found = list_profiles()
    assert len(found.rows) == 5
    assert note in found.notes[0]


@pytest.mark.usefixtures("project")
def test_a_server_that_never_answers_is_given_up_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{listener.getsockname()[1]}/api")
        assert "does not answer" in list_profiles().notes[0]


def test_the_key_of_prefects_profile_goes_along(project: Path) -> None:
    settings = project.parent / "prefect" / "profiles.toml"
    settings.parent.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        settings.write_text(f'active = "x"\n[profiles.x]\nPREFECT_API_URL = "{url}"\nPREFECT_API_KEY = "pnu_1"\n')
        asking = subprocess.Popen([sys.executable, "-c", "from nemotron.cli.profile_list import *; list_profiles()"])
        connection, _ = listener.accept()
        with connection:
            request = connection.recv(65536).decode()
        asking.wait()
    assert "POST /api/block_documents/filter" in request
    assert "Authorization: Bearer pnu_1\r\n" in request


@pytest.mark.usefixtures("project")
def test_the_list_imports_nothing_heavy() -> None:
    script = (
        "import sys; from nemotron.cli.profile_list import list_profiles; import nemotron.cli.env\n"
        "print(len(list_profiles().rows), [m for m in ('prefect', 'pydantic', 'omegaconf') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "5 []"


def test_a_profile_is_shown_whole_and_without_secrets(project: Path) -> None:
    shown = nemotron("show", "big_one").stdout
    assert shown == (
        f'# env.toml ({project}/env.toml)\n[big_one]\nexecutor = "slurm"\naccount = "llm"\npartition = "batch"\n'
        'nodes = 4\n\n[big_one.env_vars]\nHF_TOKEN = "***"\n'
    )
    document = json.loads(nemotron("show", "big_one", "--json").stdout)
    assert document["profile"]["env_vars"] == {"HF_TOKEN": "***"}


@pytest.mark.usefixtures("project")
def test_an_unknown_profile_is_refused_with_the_nearest() -> None:
    refused = nemotron("show", "big-one").exception
    assert isinstance(refused, ConfigError)
    assert "Did you mean 'big_one'?" in str(refused)


def test_profiles_go_to_blocks_and_back(api: str) -> None:
    assert nemotron("import", "base", "big_one").stdout == (
        "saved profile base as block nemotron-env-profile/base\n"
        "saved profile big_one as block nemotron-env-profile/big-one\n"
    )
    assert f"# block on {api}" in nemotron("show", "base").stdout
    assert "named like secrets; give --show-secrets" in str(nemotron("export").exception)
    assert 'HF_TOKEN = "hunter2"' in nemotron("export", "big_one", "--show-secrets").stdout
    assert "use --overwrite" in str(nemotron("import", "base").exception)
    assert nemotron("import", "base", "--overwrite").exit_code == 0


@pytest.mark.parametrize("command", ["import", "export"])
@pytest.mark.usefixtures("project")
def test_blocks_need_an_api(command: str) -> None:
    assert isinstance(nemotron(command).exception, RequirementError)


def test_a_local_profile_is_checked(project: Path) -> None:
    assert nemotron("check", "here").exit_code == 0
    (project / "env.toml").write_text("[gpus]\ngpus_per_node = 64\n")
    checked = nemotron("check", "gpus")
    assert checked.exit_code == 1
    assert "gpus_per_node = 64, nvidia-smi lists" in checked.stdout


@pytest.mark.usefixtures("project")
def test_an_executor_that_is_not_run_here_is_one_failed_check() -> None:
    checked = nemotron("check", "boat", "--json")
    (check,) = json.loads(checked.stdout)["checks"]
    assert (checked.exit_code, check["outcome"]) == (1, "failed")
    assert check["said"].startswith("executor = 'docker' is known and not run here; allowed: local, slurm")


def test_the_clusters_of_attached_and_detached_runs_are_both_checked(slurm: Cluster, project: Path) -> None:
    (project / "env.toml").write_text(
        '[lab]\nexecutor = "slurm"\naccount = "test"\nrun_partition = "high"\nbatch_partition = "scav"\n'
        'time = "00:05:00"\nmem = "300M"\n[wrong]\nextends = "lab"\nbatch_partition = "scva"\n'
    )
    checked = nemotron("check", "lab")
    assert checked.exit_code == 0, checked.output
    assert "high: UP" in checked.stdout
    assert "scav: UP" in checked.stdout
    assert checked.stdout.count("to start at") == 2
    assert nemotron("check", "wrong").exit_code == 1
    assert slurm.jobs(name="nemotron-check") == []
    assert [path.name for path in project.iterdir()] == ["env.toml"]


def test_a_login_node_is_checked_and_the_connection_closed(
    slurm: Cluster, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "env.toml").write_text(
        f'[lab]\nexecutor = "slurm"\ntunnel = "ssh"\nhost = "login"\npython = "{sys.executable}"\nmem = "300M"\n'
    )
    with short_folder() as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        with SshServer.running(folder / "server", **slurm.env) as server:
            monkeypatch.setenv("PATH", f"{server.programs}:{os.environ['PATH']}")
            monkeypatch.setenv("SLURM_CONF", "/dev/null")
            checked = nemotron("check", "lab")
            assert checked.exit_code == 0, checked.output
            assert "login sees it under the same path" in " ".join(checked.stdout.split())
            assert server.num_logins() == 1
            wait_for_no_connection(folder)
