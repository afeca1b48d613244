"""Scripts, configs and env.toml as users of NVIDIA's Nemotron repository have them are read and merged as there."""

import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

import nemo_runspec
from nemo_runspec.cli_context import GlobalContext
from nemo_runspec.config import build_job_config, extract_train_config, load_config, parse_config
from nemo_runspec.env import (
    get_artifacts_config,
    get_cache_config,
    get_cli_config,
    get_wandb_config,
    load_env_profile,
    parse_env,
)
from nemo_runspec.errors import ConfigError
from nemo_runspec.execution import build_local_command
from nemo_runspec.profiles import Profile, check_supported, parse_profile, partition_for

FULL = '''\
#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.10"
# dependencies = ["torch", "omegaconf>=2.3"]
#
# [tool.uv]
# package = false
#
# [tool.runspec]
# schema = "1"
# docs = "https://example.com/runspec.md"
# name = "nano3/rl"
# image = "registry.example.com/nemo-rl:v1"
# setup = """
# Everything is in the image.
#
#     uv sync --extra mcore   # only outside of it
# """
#
# [tool.runspec.run]
# launch = "ray"
# cmd = "uv run python {script} --config {config}"
# workdir = "/opt/nemo-rl"
#
# [tool.runspec.config]
# dir = "./config"
# default = "grpo"
# format = "omegaconf"
#
# [tool.runspec.resources]
# nodes = 32
# gpus_per_node = 8
#
# [tool.runspec.env]
# NCCL_DEBUG = "WARN"
# PYTHONPATH = "/opt/nemo-rl:${PYTHONPATH}"
# ///
"""GRPO."""
print()
'''

ENV_TOML = """\
[wandb]
project = "nemotron"
entity = "team"

[artifacts]
backend = "fsspec"
root = "/lustre/artifacts"

[cache]
git_dir = "/lustre/git"

[cli]
theme = "dracula"

[cluster]
executor = "slurm"
tunnel = "ssh"
host = "login.example.com"
user = "me"
identity = "~/.ssh/id_ed25519"
remote_job_dir = "/lustre/me/nemo-run"
account = "llm"
partition = "batch"
run_partition = "interactive"
batch_partition = "long"
nodes = 2
ntasks_per_node = 8
gpus_per_node = 8
mem = "0"
exclusive = true
time = "04:00:00"
container_image = "/lustre/images/nemo.sqsh"
mounts = ["/lustre:/lustre", "/home/me/.cache:/root/.cache:ro"]
startup_commands = ["ulimit -n 65536", "export NCCL_DEBUG=WARN"]
packager = "code"
additional_parameters = { gres = "gpu:8", mail_type = "END" }

[cluster.env_vars]
HF_HOME = "/lustre/hf"
NCCL_IB_SL = 1

[big]
extends = "cluster"
nodes = 8

[biggest]
extends = "big"
nodes = 64
time = "2-00:00:00"
env_vars = { NCCL_IB_SL = 2 }

[laptop]
executor = "docker"
container_image = "nemo:dev"
volumes = ["/data:/data"]
runtime = "nvidia"
shm_size = "64g"

[dgx]
executor = "dgxcloud"
base_url = "https://example.com/api"
app_id = "nemotron"
project_name = "llm"
pvcs = [{ name = "workspace", path = "/workspace" }]
nodes = 4
gpus_per_node = 8
container_image = "nemo:dev"

[lepton]
executor = "lepton"
resource_shape = "gpu.8xh100-80gb"
node_group = "h100"
mounts = [{ path = "/", mount_path = "/workspace" }]
nemo_run_dir = "/workspace/nemo-run"

[sky]
executor = "skypilot"
cloud = "kubernetes"
gpus = "H100"
gpus_per_node = 8
num_nodes = 2
use_spot = true

[kube]
executor = "kubeflow"
namespace = "default"
num_nodes = 2
volumes = [{ name = "w", mount_path = "/w" }]
"""
FOREIGN = {"laptop": "docker", "dgx": "dgxcloud", "lepton": "lepton", "sky": "skypilot", "kube": "kubeflow"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's repository: two recipes that share configs, and an env.toml."""
    for name in ("NEMOTRON_ENV_FILE", "PREFECT_API_URL", "PREFECT_PROFILE", "NEMOTRON_STORE"):
        monkeypatch.delenv(name, raising=False)
    files = {
        "pyproject.toml": "[project]\nname = 'mine'\n",
        "env.toml": ENV_TOML,
        "recipes/nano3/stage2_rl/train.py": FULL,
        "recipes/shared/model.yml": "model: {layers: 52, hidden: 2688}\nseed: 1\n",
        "recipes/shared/optim.yaml": "defaults: ./schedule\noptim: {lr: 1.0e-3}\nseed: 2\n",
        "recipes/shared/schedule.yaml": "schedule: {warmup: 10}\noptim: {lr: 1.0e-5, wd: 0.1}\n",
        "recipes/nano3/stage2_rl/config/grpo.yaml": RECIPE_YAML,
        "recipes/nano3/stage2_rl/config/tiny.yaml": "defaults: grpo\nmodel: {layers: 2}\n",
        "recipes/hello/train.py": HELLO,
        "recipes/hello/config/default.yaml": "steps: 1\n",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


HELLO = '# /// script\n# [tool.runspec]\n# name = "hello/train"\n# run.launch = "direct"\n# ///\n'
RECIPE_YAML = """\
defaults:
  - ../../../shared/model.yml
  - ../../../shared/optim
run:
  data: my-data:latest
  model: my-model:v3
  env:
    container_image: registry.example.com/nemo-rl:v1
    mounts:
      - ${auto_mount:git+https://example.com/bridge.git@main,/opt/bridge}
seed: 3
data_path: ${art:data,path}/blend.json
load: ${art:model}
iteration: ${art:model,iteration}
hf_home: ${oc.env:HF_HOME,/root/.cache}
log_dir: ${run.env.remote_job_dir}/logs
nodes: ${run.env.nodes}
project: ${run.wandb.project}
half: ${model.hidden}
"""


def script(project: Path) -> nemo_runspec.Runspec:
    return nemo_runspec.parse(project / "recipes/nano3/stage2_rl/train.py")


def job_config(project: Path, *overrides: str, **options: str) -> DictConfig:
    spec, ctx = script(project), GlobalContext(dotlist=list(overrides), **options)
    config = parse_config(ctx, spec.config_dir, spec.config.default)
    return build_job_config(config, ctx, spec.name, str(spec.script_path), ["nemotron"], env_profile=parse_env(ctx))


def profile(name: str) -> Profile:
    table = OmegaConf.to_container(load_env_profile(name), resolve=False)
    assert isinstance(table, dict)
    return parse_profile({str(key): value for key, value in table.items()}, origin=name)


def test_every_documented_key_of_the_runspec_is_read(project: Path) -> None:
    spec = script(project)
    assert (spec.schema, spec.name, spec.docs) == ("1", "nano3/rl", "https://example.com/runspec.md")
    assert spec.image == "registry.example.com/nemo-rl:v1"
    assert spec.setup == "Everything is in the image.\n\n    uv sync --extra mcore   # only outside of it\n"
    assert (spec.run.launch, spec.run.workdir, spec.run.packager) == ("ray", "/opt/nemo-rl", "pattern")
    assert (spec.config.dir, spec.config.default, spec.config.format) == ("./config", "grpo", "omegaconf")
    assert (spec.resources.nodes, spec.resources.gpus_per_node) == (32, 8)
    assert spec.env == {"NCCL_DEBUG": "WARN", "PYTHONPATH": "/opt/nemo-rl:${PYTHONPATH}"}
    assert build_local_command(spec, "/job/train.yaml") == [
        *("uv", "run", "python", str(spec.script_path), "--config", "/job/train.yaml")
    ]


@pytest.mark.parametrize("launch", ["torchrun", "ray", "direct"])
@pytest.mark.parametrize("gpus", ["0", "8", '"gpu"'])
def test_each_launcher_and_count_of_gpus_is_read(tmp_path: Path, launch: str, gpus: str) -> None:
    head = f'# [tool.runspec]\n# [tool.runspec.run]\n# launch = "{launch}"\n'
    path = tmp_path / "train.py"
    path.write_text(f"# /// script\n{head}# [tool.runspec.resources]\n# gpus_per_node = {gpus}\n# ///\n")
    spec = nemo_runspec.parse(path)
    assert (spec.run.launch, str(spec.resources.gpus_per_node)) == (launch, gpus.strip('"'))


def test_a_script_with_carriage_returns_is_read(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_bytes(FULL.replace("\n", "\r\n").encode())
    assert nemo_runspec.parse(path).name == "nano3/rl"


def test_defaults_merge_in_order_over_directories_and_suffixes(project: Path) -> None:
    config = load_config(project / "recipes/nano3/stage2_rl/config/tiny.yaml")
    assert config.model == {"layers": 2, "hidden": 2688}
    assert config.optim == {"lr": 1.0e-3, "wd": 0.1}
    assert (config.schedule.warmup, config.seed) == (10, 3)
    assert "defaults" not in config


def test_interpolations_of_the_worker_stay_and_those_of_the_run_are_filled_in(project: Path) -> None:
    train = OmegaConf.to_container(extract_train_config(job_config(project, run="cluster"), for_remote=True))
    assert isinstance(train, dict)
    assert train["data_path"] == "${art:data,path}/blend.json"
    assert (train["load"], train["iteration"]) == ("${art:model}", "${art:model,iteration}")
    assert (train["hf_home"], train["half"]) == ("${oc.env:HF_HOME,/root/.cache}", "${model.hidden}")
    assert (train["log_dir"], train["nodes"], train["project"]) == ("/lustre/me/nemo-run/logs", 2, "nemotron")
    assert train["run"] == {"data": "my-data:latest", "model": "my-model:v3"}


def test_the_job_config_has_the_recipe_the_profile_and_the_tables_of_env_toml(project: Path) -> None:
    job = OmegaConf.to_container(job_config(project, "run.env.nodes=3", "seed=4", config="tiny", batch="biggest"))
    assert isinstance(job, dict)
    run = job["run"]
    assert run["env"]["container_image"] == "registry.example.com/nemo-rl:v1"
    assert run["env"]["mounts"] == [
        "${auto_mount:git+https://example.com/bridge.git@main,/opt/bridge}",
        *("/lustre:/lustre", "/home/me/.cache:/root/.cache:ro"),
    ]
    assert (run["env"]["nodes"], run["env"]["time"], job["seed"]) == (3, "2-00:00:00", 4)
    assert run["env"]["env_vars"] == {"HF_HOME": "/lustre/hf", "NCCL_IB_SL": 2}
    assert (run["mode"], run["profile"]) == ("batch", "biggest")
    assert run["wandb"] == {"project": "nemotron", "entity": "team"}
    assert job["artifacts"] == {"backend": "fsspec", "root": "/lustre/artifacts"}


@pytest.mark.usefixtures("project")
def test_the_tables_for_settings_are_no_profiles() -> None:
    tables = [get_wandb_config(), get_artifacts_config(), get_cache_config(), get_cli_config()]
    assert [OmegaConf.to_container(table) for table in tables if table is not None] == [
        {"project": "nemotron", "entity": "team"},
        {"backend": "fsspec", "root": "/lustre/artifacts"},
        {"git_dir": "/lustre/git"},
        {"theme": "dracula"},
    ]
    with pytest.raises(ValueError, match="profile 'wandb' not found"):
        load_env_profile("wandb")


@pytest.mark.usefixtures("project")
def test_a_slurm_profile_is_read_with_all_that_it_extends() -> None:
    found = profile("biggest")
    assert (found.executor, found.account, found.nodes, found.time) == ("slurm", "llm", 64, "2-00:00:00")
    assert (found.tunnel, found.host, found.user, found.identity) == (
        *("ssh", "login.example.com", "me", "~/.ssh/id_ed25519"),
    )
    assert (partition_for(found, attached=True), partition_for(found, attached=False)) == ("interactive", "long")
    assert found.mounts == ("/lustre:/lustre", "/home/me/.cache:/root/.cache:ro")
    assert found.startup_commands == ("ulimit -n 65536", "export NCCL_DEBUG=WARN")
    assert found.env_vars == {"HF_HOME": "/lustre/hf", "NCCL_IB_SL": "2"}
    assert (found.exclusive, found.mem, found.packager) == (True, "0", "code")
    # NeMo-Run writes additional_parameters with dashes.
    assert found.sbatch == {"gres": "gpu:8", "mail-type": "END"}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", FOREIGN)
def test_a_profile_of_another_executor_is_read_and_refused_by_its_name_when_it_is_to_run(name: str) -> None:
    found = profile(name)
    assert found.executor == FOREIGN[name]
    with pytest.raises(ConfigError, match=f"profile '{name}': executor '{FOREIGN[name]}' is not run here"):
        check_supported(found, name)


def nemotron(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).parent / "nemotron")
    return subprocess.run([program, *words], cwd=project, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("name", FOREIGN)
def test_the_command_refuses_such_a_profile_in_a_line_and_starts_nothing(project: Path, name: str) -> None:
    done = nemotron(project, "hello", "train", "--run", name)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"profile {name!r}: executor {FOREIGN[name]!r} is not run here" in line
    assert not (project / ".nemotron" / "work").exists()


@pytest.mark.parametrize(
    "words", [["--help"], ["hello", "--help"], ["hello", "train", "--help"], ["nano3", "rl", "--help"], ["env", "list"]]
)
def test_help_and_lists_work_with_such_an_env_toml(project: Path, words: list[str]) -> None:
    done = nemotron(project, *words)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_help_of_a_command_and_env_list_name_all_profiles(project: Path) -> None:
    for shown in (nemotron(project, "hello", "train", "--help").stdout, nemotron(project, "env", "list").stdout):
        assert [name for name in ("cluster", "big", "biggest", *FOREIGN) if name not in shown] == []
