import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from nemo_runspec.errors import ConfigError, RequirementError
from nemotron.blocks import store_settings
from nemotron.blocks.artifact_stores import (
    LocalArtifactStore,
    StoreBlock,
    WandbArtifactStore,
    WandbCredentials,
    WandbOffline,
)
from nemotron.blocks.env_profile import prefect_client
from nemotron.blocks.store_settings import StoreSettings, find_store_settings, wandb_server

KEY = "k" * 40


@pytest.fixture(autouse=True)
def forget_blocks() -> Iterator[None]:
    store_settings._load_block.cache_clear()
    yield
    store_settings._load_block.cache_clear()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("NEMOTRON_ENV_FILE", "PREFECT_API_URL", "PREFECT_PROFILE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def named(project: Path, text: str) -> StoreSettings:
    (project / "env.toml").write_text(f"[artifacts]\n{text}\n")
    return find_store_settings(project)


def test_without_a_word_it_is_the_projects_own_store(project: Path) -> None:
    assert find_store_settings(project) == StoreSettings()


def test_env_toml_names_a_store(project: Path) -> None:
    assert named(project, 'root = "s3://bucket/team"').root == "s3://bucket/team"


def test_a_worker_in_another_directory_reads_the_projects_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert named(project, 'root = "/lustre/artifacts"').root == "/lustre/artifacts"


def test_keys_of_other_tools_in_the_table_are_left_alone(project: Path) -> None:
    assert named(project, 'backend = "fsspec"\nroot = "/lustre/artifacts"').root == "/lustre/artifacts"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("root = 7", "[artifacts] root = 7; expected text"),
        ('block = ""', "[artifacts] block = ''; expected text"),
        ('root = "/a"\nblock = "wandb-offline/x"', "has both root and block"),
    ],
)
def test_what_cannot_be_used_is_refused(text: str, said: str, project: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        named(project, text)
    assert said in str(refusal.value)


def test_a_block_without_a_server_is_refused(project: Path) -> None:
    with pytest.raises(RequirementError, match="no Prefect API is configured"):
        named(project, 'block = "wandb-artifact-store/lab"')


def saved(block: StoreBlock, url: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> StoreSettings:
    with prefect_client(url):
        block.save("lab-store", overwrite=True)
    monkeypatch.setenv("PREFECT_API_URL", url)
    return named(project, f'block = "{block.get_block_type_slug()}/lab-store"')


def test_a_local_store_comes_back_from_the_server(
    block_server: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = saved(LocalArtifactStore(root="/lustre/a"), block_server, project, monkeypatch)
    assert found == StoreSettings(root="/lustre/a")


def test_a_mirrored_store_comes_back_with_its_key(
    block_server: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = WandbCredentials(api_key=SecretStr(KEY), base_url="http://wandb.lab")
    block = WandbArtifactStore(entity="team", project="nano3", credentials=credentials, required=True)

    found = saved(block, block_server, project, monkeypatch)

    assert found.api_key is not None
    assert found.api_key.get_secret_value() == KEY
    assert found.wandb == {
        "mode": "online",
        "entity": "team",
        "project": "nano3",
        "base_url": "http://wandb.lab",
        "required": True,
        "timeout_s": 120.0,
    }


def test_a_block_s_key_goes_to_the_block_s_own_server_only(
    block_server: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = WandbCredentials(api_key=SecretStr(KEY), base_url="http://wandb.lab/")
    saved(WandbArtifactStore(project="nano3", credentials=credentials), block_server, project, monkeypatch)

    assert wandb_server("http://wandb.lab", project).api_key == SecretStr(KEY)
    assert wandb_server("http://evil.example", project).api_key is None


def test_the_environment_s_key_goes_to_the_server_of_env_toml(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    (project / "env.toml").write_text('[wandb]\nbase_url = "http://wandb.lab/"\n')

    assert wandb_server("http://wandb.lab", project).api_key == SecretStr(KEY)
    assert wandb_server("http://evil.example", project).api_key is None


def test_an_offline_store_sends_nothing_now(block_server: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = saved(WandbOffline(project="nano3"), block_server, project, monkeypatch)
    assert found == StoreSettings(wandb={"mode": "offline", "project": "nano3"})


def test_a_key_is_never_shown(block_server: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = WandbArtifactStore(project="nano3", credentials=WandbCredentials(api_key=SecretStr(KEY)))
    found = saved(block, block_server, project, monkeypatch)
    assert KEY not in f"{block!r} {block} {found!r}"


@pytest.mark.parametrize("reference", ["wandb-artifact-store/none-of-that-name", "s3/lab", "lab", "wandb-offline/"])
def test_a_block_that_is_not_there_is_told(
    reference: str, block_server: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", block_server)
    with pytest.raises(ConfigError, match="artifact store block"):
        named(project, f'block = "{reference}"')


def test_a_block_opens_its_store(tmp_path: Path) -> None:
    assert LocalArtifactStore(root=str(tmp_path / "store")).open().names() == []


def test_a_block_without_a_root_has_no_store_to_open() -> None:
    with pytest.raises(ConfigError, match="root is empty"):
        LocalArtifactStore().open()


def test_a_project_without_blocks_imports_no_prefect(project: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from nemotron.blocks.store_settings import find_store_settings; "
        "find_store_settings(Path('.')); print('prefect' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=project)
    assert done.stdout == "False\n"
