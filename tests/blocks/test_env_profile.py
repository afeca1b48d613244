import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nemo_runspec.errors import ConfigError, RequirementError
from nemo_runspec.profiles import Profile, format_toml, parse_profile
from nemotron.blocks.env_command import main
from nemotron.blocks.env_profile import (
    EnvProfile,
    document_name,
    list_documents,
    prefect_client,
    read_profile,
    save_profile,
)
from nemotron.blocks.profile_lookup import find_profile, prefect_api_url

NASTY = ["a b", "'", '"', "$(touch x)", "${HOME} `id`", "line\nline\r\n", "tab\t\x1b\x7f", "日本 é 🚀", "\\x", ""]
TOML = """
[base]
executor = "slurm"
env_vars = { A = "1" }
[my_cluster]
extends = "base"
nodes = 2
env_vars = { B = "2" }
remote_job_dir = "/scratch/${oc.env:WHO}/jobs"
setup_lines = ["echo ${HOME}"]
[wandb]
project = "p"
"""


def profile(**table: Any) -> Profile:
    return parse_profile({"executor": "slurm", **table}, origin="test")


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "env.toml"
    path.write_text(TOML)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WHO", "me")
    return path


@pytest.fixture
def no_api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_PROFILE", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))


@pytest.fixture
def silent_url() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api"


@pytest.mark.parametrize("text", NASTY)
def test_a_block_keeps_nasty_text(text: str) -> None:
    given = profile(env_vars={"A": text}, setup_lines=[text], startup_commands=[text])
    assert EnvProfile.from_profile(given).to_profile() == given


def test_a_stored_block_keeps_everything(server: str) -> None:
    given = profile(
        env_vars={f"V{number}": text for number, text in enumerate(NASTY)},
        setup_lines=NASTY,
        sbatch={"nice": 1, "overcommit": True, "gres": "1"},
        time=240,
        mounts=["/a b:/c"],
        poll_interval_s=2.5,
    )
    save_profile("my_cluster", given, url=server)
    assert read_profile("my_cluster", server) == given


def test_a_stored_block_of_another_executor_keeps_everything(server: str) -> None:
    table = {"executor": "lepton", "mounts": [{"path": "/a"}], "x": {"y": [1, 1.5, True, "é"]}}
    given = parse_profile(table, origin="test")
    save_profile("lepton", given, url=server)
    assert read_profile("lepton", server) == given


def test_a_block_is_replaced_as_a_whole(server: str) -> None:
    save_profile("a", profile(nodes=2, env_vars={"A": "1", "B": "2"}, sbatch={"nice": 1}), url=server)
    save_profile("a", profile(env_vars={"B": "3"}), url=server, overwrite=True)
    assert read_profile("a", server) == profile(env_vars={"B": "3"})


def test_a_block_is_not_replaced_unasked(server: str) -> None:
    save_profile("a", profile(), url=server)
    with pytest.raises(ConfigError, match=r"profile 'a': block 'a' on .* exists; use --overwrite"):
        save_profile("a", profile(nodes=2), url=server)


def test_two_names_that_would_share_a_block_are_refused(server: str) -> None:
    save_profile("my_cluster", profile(), url=server)
    with pytest.raises(ConfigError, match=r"block 'my-cluster' on .* holds profile 'my_cluster'.*rename one"):
        save_profile("My-cluster", profile(), url=server, overwrite=True)
    assert read_profile("my-cluster", server) is None


def test_a_name_of_which_nothing_stays_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs letters a-z or digits"):
        document_name("日本")


def test_prefect_loads_the_block_by_its_own_api(server: str) -> None:
    from nemotron.blocks.env_profile import prefect_client

    save_profile("a", profile(env_vars={"A": "1"}), url=server)
    with prefect_client(server):
        block = EnvProfile.load("a")
    assert block.to_profile() == profile(env_vars={"A": "1"})


def test_a_block_made_by_hand_is_found_by_its_own_name(server: str) -> None:
    from nemotron.blocks.env_profile import prefect_client

    with prefect_client(server):
        EnvProfile(executor="slurm").save("by-hand")
    assert find_profile("by-hand") == profile()


def test_a_block_shows_no_variable(server: str) -> None:
    block = EnvProfile.from_profile(profile(env_vars={"A": "hunter2"}))
    save_profile("a", profile(env_vars={"A": "hunter2"}), url=server)
    assert "hunter2" not in repr(block) + str(block) + block.model_dump_json()


def test_a_block_with_an_unknown_field_is_refused() -> None:
    block = EnvProfile.model_validate({"parition": "x"})
    with pytest.raises(ConfigError, match=r"block: parition: no such field\. Did you mean 'partition'"):
        block.to_profile()


def test_a_block_with_a_wrong_value_is_refused_with_its_place(server: str) -> None:
    from nemotron.blocks.env_profile import prefect_client

    block = EnvProfile()
    block.nodes = 0
    with prefect_client(server):
        block.save("wrong")
    with pytest.raises(ConfigError, match=r"block nemotron-env-profile/wrong on http.*: nodes = 0: expected"):
        find_profile("wrong")


def test_a_block_goes_before_env_toml(server: str, env_file: Path) -> None:
    save_profile("my_cluster", profile(nodes=9), url=server)
    assert find_profile("my_cluster").nodes == 9
    assert find_profile("base", env_file=env_file).env_vars == {"A": "1"}


@pytest.mark.usefixtures("no_api")
def test_env_toml_is_read_over_what_it_extends(env_file: Path) -> None:
    assert find_profile("my_cluster", env_file=env_file) == profile(
        nodes=2, env_vars={"A": "1", "B": "2"}, remote_job_dir="/scratch/me/jobs", setup_lines=["echo ${HOME}"]
    )


@pytest.mark.usefixtures("no_api")
def test_a_variable_that_env_toml_needs_and_is_not_set_is_named(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WHO")
    with pytest.raises(ConfigError, match=r"profile 'my_cluster': \$\{oc\.env:WHO\}: the variable is not set"):
        find_profile("my_cluster", env_file=env_file)


def test_a_name_in_neither_place_is_refused_with_both(server: str, env_file: Path) -> None:
    save_profile("other", profile(), url=server)
    with pytest.raises(ConfigError) as refused:
        find_profile("my_clutser", env_file=env_file)
    assert f"no block on {server} (have: other)" in str(refused.value)
    assert f"not in {env_file} (have: base, my_cluster). Did you mean 'my_cluster'?" in str(refused.value)


@pytest.mark.usefixtures("no_api")
def test_without_an_api_and_a_file_both_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no Prefect API is configured; no env\.toml in"):
        find_profile("x")


@pytest.mark.usefixtures("no_api")
def test_a_wrong_field_of_env_toml_is_told_with_file_and_name(tmp_path: Path) -> None:
    path = tmp_path / "env.toml"
    path.write_text("[dev]\nparition = 'x'\n")
    with pytest.raises(ConfigError, match=r"env\.toml: profile 'dev': parition = 'x': no such field"):
        find_profile("dev", env_file=path)


def test_a_silent_server_leaves_env_toml(
    silent_url: str, env_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", silent_url)
    started = time.monotonic()
    assert find_profile("base", env_file=env_file).env_vars == {"A": "1"}
    assert time.monotonic() - started < 25
    assert f"profile 'base': Prefect API {silent_url} does not answer" in caplog.text


def test_a_server_that_never_saw_such_a_block_leaves_env_toml_without_a_warning(
    server: str, env_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_profile("other", profile(), url=server)
    with prefect_client(server) as client:
        block_type = client.read_block_type_by_slug(EnvProfile.get_block_type_slug())
        client.delete_block_type(block_type.id)
    assert find_profile("my_cluster", env_file=env_file).executor == "slurm"
    assert caplog.records == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "nonsense", "http://[", "ftp://127.0.0.1/api"])
def test_no_server_and_no_table_is_refused_with_both(url: str, env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(ConfigError) as refused:
        find_profile("x", env_file=env_file)
    assert f"Prefect API {url} does not answer" in str(refused.value)
    assert f"not in {env_file} (have: base, my_cluster)" in str(refused.value)


def test_a_server_that_is_none_of_prefect_is_told(server: str) -> None:
    with pytest.raises(RequirementError, match=r"does not answer as one|answered 4"):
        list_documents(server.removesuffix("/api") + "/other")


@pytest.mark.usefixtures("env_file")
def test_lookup_without_an_api_imports_no_prefect(tmp_path: Path) -> None:
    script = (
        "import sys; from nemotron.blocks.profile_lookup import find_profile; "
        "print(find_profile('my_cluster').nodes, sorted(m for m in sys.modules if m.startswith('prefect')))"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2 []", done.stderr
    assert not (tmp_path / ".prefect").exists()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ('active = "x"\n[profiles.x]\nPREFECT_API_URL = "http://h/api"\n', "http://h/api"),
        ('active = "x"\n[profiles.x]\n[profiles.y]\nPREFECT_API_URL = "http://h/api"\n', None),
        ('active = "gone"\n[profiles.x]\n', None),
        ("profiles = 1\n", None),
        ("= broken", None),
    ],
)
@pytest.mark.usefixtures("no_api")
def test_the_active_prefect_profile_tells_the_api(text: str, url: str | None, tmp_path: Path) -> None:
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "profiles.toml").write_text(text)
    assert prefect_api_url() == url


@pytest.mark.usefixtures("server")
def test_profiles_go_to_blocks_and_back(env_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import"]) == 0
    assert "saved profile my_cluster as block nemotron-env-profile/my-cluster" in capsys.readouterr().out
    assert main(["export", "my_cluster"]) == 0
    assert capsys.readouterr().out == format_toml("my_cluster", find_profile("my_cluster", env_file=env_file))
    assert main(["list"]) == 0
    assert capsys.readouterr().out == "base  base  slurm\nmy_cluster  my-cluster  slurm\n"


def test_nothing_is_imported_if_one_of_the_blocks_exists(
    server: str, env_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_profile("my_cluster", profile(), url=server)
    assert main(["import"]) == 2
    assert "exists; use --overwrite" in capsys.readouterr().err
    assert read_profile("base", server) is None
    assert main(["import", "--overwrite", "my_cluster", "--env-file", str(env_file)]) == 0


def test_nothing_is_imported_if_two_profiles_would_share_a_block(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "two.toml").write_text("[a_b]\n[a-b]\n")
    assert main(["import", "--env-file", str(tmp_path / "two.toml")]) == 2
    assert "profiles 'a_b' and 'a-b': both would be block 'a-b'" in capsys.readouterr().err
    assert list_documents(server) == []


def test_secrets_are_exported_only_on_request(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    save_profile("a", profile(env_vars={"HF_TOKEN": "hunter2"}), url=server)
    assert main(["export"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: a.env_vars.HF_TOKEN: named like secrets")
    assert main(["export", "--show-secrets"]) == 0
    assert 'HF_TOKEN = "hunter2"' in capsys.readouterr().out


def test_an_unknown_block_is_not_exported(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    save_profile("dev", profile(), url=server)
    assert main(["export", "dve"]) == 2
    assert "profile 'dve': no block on" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["import", "export", "list"])
@pytest.mark.usefixtures("no_api", "env_file")
def test_the_command_needs_an_api(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([action]) == 2
    assert capsys.readouterr().err.startswith("error: no Prefect API is configured; set PREFECT_API_URL")


@pytest.mark.usefixtures("no_api")
def test_the_profile_local_is_always_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_profile("local") == Profile(executor="local")


@pytest.mark.usefixtures("no_api")
def test_a_projects_own_profile_of_that_name_comes_first(env_file: Path) -> None:
    env_file.write_text('[local]\nexecutor = "local"\nnproc_per_node = 2\n')
    assert find_profile("local").nproc_per_node == 2
