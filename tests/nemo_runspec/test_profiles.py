import tomllib
from typing import Any

import pytest
from omegaconf import OmegaConf

from nemo_runspec.errors import ConfigError
from nemo_runspec.profiles import (
    Profile,
    check_supported,
    format_toml,
    parse_profile,
    partition_for,
    profile_config,
    profile_table,
)

ORIGIN = "env.toml: profile 'dev'"
NASTY = [
    "a b",
    "'",
    '"',
    "$(touch x)",
    "${HOME} `id` \\${A} ${",
    "line\nline\r\n",
    "tab\t\x1b\x7f",
    "日本 é 🚀",
    "#x",
    "",
]
SLURM = {
    "executor": "slurm",
    "account": "llm",
    "run_partition": "interactive",
    "batch_partition": "batch",
    "nodes": 2,
    "ntasks_per_node": 8,
    "gpus_per_node": 8,
    "time": "04:00:00",
    "container_image": "/images/nemo.sqsh",
    "mounts": ["/lustre:/lustre"],
    "startup_commands": ["export A=1"],
    "tunnel": "ssh",
    "host": "login",
    "user": "me",
    "remote_job_dir": "/lustre/me/jobs",
    "packager": "code",
    "env_vars": {"HF_HOME": "/lustre/hf"},
    "sbatch": {"gres": "gpu:8", "overcommit": True, "nice": 5},
}


def parse(**table: Any) -> Profile:
    return parse_profile(table, origin=ORIGIN)


def read_back(profile: Profile, name: str = "dev") -> Profile:
    return parse_profile(tomllib.loads(format_toml(name, profile))[name], origin=ORIGIN)


def test_a_profile_of_slurm_is_read_and_written_without_loss() -> None:
    profile = parse(**SLURM)
    assert profile_table(profile) == SLURM
    assert read_back(profile) == profile


def test_an_empty_table_is_the_local_default() -> None:
    assert profile_table(parse()) == {}
    assert read_back(parse()) == Profile()


@pytest.mark.parametrize("text", NASTY)
def test_nasty_text_survives_toml(text: str) -> None:
    profile = parse(env_vars={"A": text}, setup_lines=[text], startup_commands=[text, text])
    assert profile.env_vars == {"A": text}
    assert read_back(profile) == profile


@pytest.mark.parametrize("text", NASTY)
def test_nasty_text_and_names_of_another_executor_survive_toml(text: str) -> None:
    profile = parse_profile({"executor": "lepton", text: {"b": [{text: text}, 1.5, True]}}, origin=ORIGIN)
    assert profile.extra[text] == {"b": [{text: text}, 1.5, True]}
    assert read_back(profile) == profile


@pytest.mark.parametrize("name", ["my_cluster", "my cluster", "a.b", 'say "x"', "日本", "x]\ny"])
def test_any_name_survives_toml(name: str) -> None:
    assert read_back(parse(**SLURM), name) == parse(**SLURM)


@pytest.mark.parametrize("text", [text for text in NASTY if text])
def test_a_config_of_a_profile_interpolates_none_of_its_text(text: str) -> None:
    config = profile_config(parse(env_vars={"A": text}, setup_lines=[text]))
    assert OmegaConf.to_container(config, resolve=True) == {"env_vars": {"A": text}, "setup_lines": [text]}


def test_variables_become_text_as_toml_writes_them() -> None:
    profile = parse(env_vars={"A": 1, "B": True, "C": 0.5})
    assert profile.env_vars == {"A": "1", "B": "true", "C": "0.5"}


def test_a_text_of_several_lines_is_split() -> None:
    assert parse(setup_lines="module load cuda\nulimit -n 1\n").setup_lines == ("module load cuda", "ulimit -n 1")


def test_nulls_count_as_unset() -> None:
    assert parse(nodes=None, mounts=None, env_vars=None) == Profile()


def test_additional_parameters_are_options_of_sbatch() -> None:
    assert parse(executor="slurm", additional_parameters={"gres": "gpu:1"}).sbatch == {"gres": "gpu:1"}


@pytest.mark.parametrize(
    ("given", "time"), [(240, "240"), ("30", "30"), ("1:30", "1:30"), ("2-12", "2-12"), ("1-00:30:00", "1-00:30:00")]
)
def test_times_of_sbatch_are_taken(given: str | int, time: str) -> None:
    assert parse(time=given).time == time


def test_a_clock_that_yaml_made_a_number_is_refused_with_both_readings() -> None:
    table = OmegaConf.to_container(OmegaConf.create("time: 4:00:00"))
    assert isinstance(table, dict)
    with pytest.raises(ConfigError, match=r"time = 14400: either 14400 minutes, or 4:00:00 without.*'10-00:00'"):
        parse_profile({str(key): value for key, value in table.items()}, origin=ORIGIN)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"parition": "x"}, "parition = 'x': no such field. Did you mean 'partition'?"),
        ({"job_name": "x"}, "job_name = 'x': no such field"),
        ({"extra": {}}, "extra = {}: no such field"),
        ({"executor": "slrum"}, "executor = 'slrum': allowed: local, slurm, docker,"),
        ({"executor": "slrum"}, "Did you mean 'slurm'?"),
        ({"executor": ["slurm"]}, "executor = ['slurm']: expected a valid string"),
        ({"submitter": "submitt"}, "Did you mean 'submitit'?"),
        ({"nodes": 0}, "nodes = 0: expected greater than or equal to 1"),
        ({"nodes": True}, "nodes = True: expected a number"),
        ({"gpus_per_node": "many"}, "gpus_per_node = 'many': expected a valid integer"),
        ({"mem": "64GB"}, "mem = '64GB': expected digits and K, M, G or T"),
        ({"time": "4h"}, "time = '4h': expected M, M:S, H:M:S"),
        ({"time": "1:2:3\n"}, r"time = '1:2:3\n': expected"),
        ({"account": "a\n#SBATCH --uid=0"}, r"account = 'a\n#SBATCH --uid=0': 'a\n#SBATCH --uid=0': expected one line"),
        ({"exclude": "n\\1"}, "sbatch reads a backslash"),
        ({"nodelist": ""}, "nodelist = '': '': expected one line, not empty"),
        ({"mounts": ["/a:/a,/b:/b"]}, "has a comma"),
        ({"remote_job_dir": "/a b"}, "remote_job_dir = '/a b': expected an absolute path"),
        ({"remote_job_dir": "/a/$(id)"}, "expected an absolute path"),
        ({"remote_job_dir": "jobs"}, "expected an absolute path"),
        ({"tunnel": "ssh"}, 'tunnel = "ssh" also needs host'),
        ({"host": "-oProxyCommand=x"}, "ssh would take it for an option"),
        ({"poll_interval_s": 0.5}, "poll_interval_s = 0.5: expected greater than or equal to 1"),
        ({"sbatch": {"job-name": "x"}}, "option 'job-name' is set for each job by nemotron; remove it"),
        ({"sbatch": {"partition": "x"}}, "set partition instead"),
        ({"sbatch": {"--cpus_per_gpu": 4}}, "write it as 'cpus-per-gpu'"),
        ({"sbatch": {"gres": "a\nb"}}, "expected one line"),
        ({"sbatch": {"gres": 1.5}}, "option 'gres' = 1.5; expected text, a whole number"),
        ({"sbatch": {}, "additional_parameters": {}}, "are the same; keep one"),
        ({"env_vars": {"1A": "x"}}, "env_vars: '1A' is no name of a variable"),
        ({"env_vars": {"A": "a\0"}}, "env_vars: A holds a NUL"),
        ({"env_vars": {"A": None}}, "env_vars: A is of type NoneType"),
        ({"setup_lines": ["a\0"]}, "holds a NUL"),
        ({"setup_lines": ["\ud800"]}, "is not UTF-8"),
    ],
)
def test_a_wrong_field_is_refused_in_one_line(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(**table)
    assert message in str(refused.value)
    assert str(refused.value).startswith(ORIGIN)
    assert "\n" not in str(refused.value)


def test_all_wrong_fields_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"parition = 'x'.*nodes = 0.*mem = '1 G'.*Correct this where it is set$"):
        parse(parition="x", nodes=0, mem="1 G")


@pytest.mark.parametrize(
    "table", [{"env_vars": {"HF_TOKEN": ["hunter2"]}}, {"env_vars": {"A": "hunter2\0"}}, {"HF_TOKEN": "hunter2"}]
)
def test_a_refusal_tells_no_secret(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(**table)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_an_executor_that_is_not_run_parses_and_keeps_what_it_has() -> None:
    table = {"executor": "lepton", "nodes": 2, "mounts": [{"path": "/a", "mount_path": "/b"}], "node_group": "g"}
    profile = parse(**table)
    assert profile.nodes == 2
    assert profile.extra == {"mounts": [{"path": "/a", "mount_path": "/b"}], "node_group": "g"}
    assert profile_table(profile) == table
    assert read_back(profile) == profile


def test_an_executor_that_is_not_run_is_refused_at_submit() -> None:
    with pytest.raises(ConfigError, match="profile 'dev': executor 'lepton' is not run here; allowed: local, slurm"):
        check_supported(parse(executor="lepton"), "dev")


@pytest.mark.parametrize("executor", ["local", "slurm"])
def test_an_executor_that_is_run_is_let_through(executor: str) -> None:
    check_supported(parse(executor=executor), "dev")


@pytest.mark.parametrize(("attached", "partition"), [(True, "interactive"), (False, "batch")])
def test_attached_and_detached_runs_have_their_own_partition(attached: bool, partition: str) -> None:
    assert partition_for(parse(**SLURM), attached) == partition


@pytest.mark.parametrize("attached", [True, False])
def test_one_partition_serves_both(attached: bool) -> None:
    assert partition_for(parse(partition="p"), attached) == "p"


def test_a_settings_table_is_no_name_for_a_profile() -> None:
    with pytest.raises(ConfigError, match=r"'wandb': env\.toml has settings under this name"):
        format_toml("wandb", Profile())


def test_each_field_has_a_default_and_a_description() -> None:
    fields = Profile.model_fields.values()
    assert all(field.description and not field.is_required() for field in fields)
