"""Bad input to `python flows/nano3.py`: one line that names value, origin and what is allowed; nothing half-written."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_process import Project

PREP = ("--plain", "--stages", "data_prep_pretrain")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Where a user's text file lies."""
    return tmp_path / "mine.txt"


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that says why the command was refused."""
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr
    return line


def published(project: Project) -> list[str]:
    return [path.name for path in (project.folder / ".nemotron" / "artifacts" / "artifacts").glob("*/versions/*")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"mine\.txt: empty \(0 bytes"),
        (b" \n\n\t", r"mine\.txt: empty \(4 bytes, no text\)"),
        (b"\x7fELF\x00\x01", r"mine\.txt: binary data \(a NUL byte at 4\)"),
        (b"na\xefve", r"mine\.txt: not UTF-8: byte 0xef at 2"),
        (b"one document", r"mine\.txt: 1 item\(s\), but train and valid need one each"),
    ],
)
def test_text_that_is_none_is_refused_by_the_stage(project: Project, text: Path, content: bytes, message: str) -> None:
    text.write_bytes(content)
    done = project.run(*PREP, f"data_prep_pretrain.sources=[{{name: mine, path: {text}}}]")
    assert re.search(message, refusal(done))
    assert published(project) == []


def test_prefect_adds_nothing_to_a_refusal_and_does_not_retry_it(project: Project, text: Path) -> None:
    text.write_bytes(b"")
    override = f"data_prep_pretrain.sources=[{{name: mine, path: {text}}}]"
    done = project.run("--stages", "data_prep_pretrain", override)
    assert "empty (0 bytes" in refusal(done)
    assert done.stderr.count("data_prep_pretrain: started") == 1
    assert len(done.stderr.splitlines()) == 3  # started, ended, error


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["data_prep_pretrain.sources.0.path=/no/such.txt"], r"sources\.0\.path: /no/such\.txt is not a file"),
        (["-c", "nope"], r"config 'nope': no such file; tried: .*; have: default, tiny"),
        (["-c", "default"], r"pretrain: config 'default' needs .*'megatron\.bridge'.* 8 GPUs \(found \d\)"),
        (["sft.trian.train_iters=5"], r"unknown key 'trian\.train_iters'.*Did you mean 'train\.train_iters'"),
        (["sft.train.train_iters=many"], r"train\.train_iters is an integer \(\d+\), got text"),
        (["--stages", "sfft"], "unknown stage 'sfft'; have: .*Did you mean 'sft'"),
        (["--stages", "rl"], "no artifact 'nano3-rl-data'.*have: none"),
        (["--profile", "mine"], r"no env\.toml"),
        (["rl.run.model=nano3-rl-model:v7"], "no artifact 'nano3-rl-model'"),
    ],
)
def test_a_wrong_choice_is_refused_before_anything_starts(project: Project, args: list[str], message: str) -> None:
    assert re.search(message, refusal(project.run(*args)))
    assert not (project.folder / ".nemotron" / "work").exists()
    assert not (project.folder / ".nemotron" / "jobs").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.yaml": b"defaults: b\n", "b.yaml": b"defaults: a\n"}, r"cyclic defaults: a\.yaml → b\.yaml → a\.yaml"),
        ({"a.yaml": b"train:\n  x: [1\n"}, r"a\.yaml:\d: bad YAML"),
        ({"a.yaml": b"- 1\n"}, r"a\.yaml: the top level is a list"),
        ({"a.yaml": b"\xff"}, r"a\.yaml: not UTF-8 text"),
    ],
)
def test_a_bad_config_file_is_refused_by_name(project: Project, files: dict[str, bytes], message: str) -> None:
    for name, content in files.items():
        (project.folder / name).write_bytes(content)
    assert re.search(message, refusal(project.run(*PREP, "-c", "./a.yaml")))


def test_a_bad_env_toml_is_refused_with_its_line(project: Project) -> None:
    (project.folder / "env.toml").write_text("[mine]\nexecutor = local\n")
    assert re.search(r"env\.toml: bad TOML: .*line 2", refusal(project.run(*PREP, "--profile", "mine")))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pretrain.train.train_iters=0", "train.train_iters = 0: Input should be greater than or equal to 1"),
        ("pretrain.model.hybrid_pattern=MXM", "hybrid_pattern has 'X'; allowed: M, * and E"),
        ("pretrain.train.micro_batch_size=3", "global_batch_size = 8 is not a multiple of micro_batch_size = 3"),
    ],
)
def test_an_impossible_value_is_refused_by_key(project: Project, override: str, message: str) -> None:
    done = project.run("--plain", "--stages", "data_prep_pretrain,pretrain", override)
    assert message in refusal(done)


def test_an_unreadable_store_is_refused(project: Project) -> None:
    (project.folder / "store").write_text("a file")
    project.env["NEMOTRON_STORE"] = str(project.folder / "store")
    assert re.search("artifact store .*/store: .*NEMOTRON_STORE", refusal(project.run(*PREP)))


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "prefect.example/api"])
def test_a_prefect_server_that_does_not_answer_is_named(project: Project, url: str) -> None:
    project.env["PREFECT_API_URL"] = url
    assert f"Prefect API URL '{url}'" in refusal(project.run("--stages", "data_prep_pretrain"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("where", ["store", "project"])
def test_a_full_disk_is_told_and_leaves_nothing_half_written(project: Project, small_disk: Path, where: str) -> None:
    project.env["NEMOTRON_STORE"] = str(small_disk / "store" if where == "store" else project.folder / "store")
    project.folder = project.folder if where == "store" else small_disk
    done = project.run(*PREP)
    assert "disk full" in refusal(done)
    assert str(small_disk) in refusal(done)
    assert not list(Path(project.env["NEMOTRON_STORE"]).glob("artifacts/*/versions/*"))
