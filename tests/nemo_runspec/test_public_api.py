"""The API that users import, as docs/api.md tells it: names, signatures, fields and errors.

To accept a change that breaks nobody: REFRESH_GOLDEN=1 ./test tests/nemo_runspec/test_public_api.py.
"""

import dataclasses
import importlib
import inspect
import os
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import nemo_runspec
from nemo_runspec import config, env, packaging
from nemo_runspec.cli_context import GlobalContext, split_unknown_args
from nemo_runspec.errors import RunspecError
from nemo_runspec.execution import create_executor
from nemo_runspec.recipe_config import RecipeConfig, parse_recipe_config
from nemo_runspec.recipe_typer import RecipeMeta, RecipeTyper

GOLDEN = Path(__file__).parent / "golden" / "public_api.txt"
RUNSPEC = ("parse", "Runspec", "RunspecRun", "RunspecConfig", "RunspecResources")
CONFIG = (
    *("parse_config", "find_config_file", "load_config", "apply_dotlist_overrides", "build_job_config"),
    *("extract_train_config", "save_configs", "generate_job_dir"),
)
ENV = (
    *("parse_env", "load_env_file", "load_env_profile"),
    *("get_wandb_config", "get_artifacts_config", "get_cache_config", "get_cli_config"),
)
NAMES = (
    *(f"nemo_runspec.{name}" for name in RUNSPEC),
    *("nemo_runspec.cli_context.GlobalContext", "nemo_runspec.cli_context.split_unknown_args"),
    *("nemo_runspec.recipe_config.RecipeConfig", "nemo_runspec.recipe_config.parse_recipe_config"),
    *("nemo_runspec.recipe_typer.RecipeMeta", "nemo_runspec.recipe_typer.RecipeTyper"),
    *(
        "nemo_runspec.recipe_typer.RecipeTyper.recipe_command",
        "nemo_runspec.recipe_typer.RecipeTyper.add_recipe_command",
    ),
    *(f"nemo_runspec.config.{name}" for name in CONFIG),
    *(f"nemo_runspec.env.{name}" for name in ENV),
    *(f"nemo_runspec.execution.{name}" for name in ("create_executor", "execute_local", "build_env_vars")),
    *(f"nemo_runspec.utils.{name}" for name in ("resolve_run_interpolations", "rewrite_paths_for_remote")),
    *(f"nemo_runspec.packaging.{name}" for name in ("SelfContainedPackager", "CodePackager", "PatternPackager")),
    *("nemo_runspec.packaging.REMOTE_SCRIPT", "nemo_runspec.packaging.REMOTE_CONFIG"),
    "nemo_runspec.config.resolvers.register_resolvers_from_config",
    *("nemo_runspec.artifacts.setup_artifact_tracking", "nemo_runspec.artifacts.log_artifact"),
)


def find(name: str) -> Any:
    """The object of that dotted name; its module is the longest part that can be imported."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"{name}: no part of it can be imported")


def describe(name: str) -> list[str]:
    found = find(name)
    if dataclasses.is_dataclass(found):
        lines = [f"{name}{inspect.signature(found)}"]
        return [*lines, *(f"    .{each}" for each in properties(found))]
    return [f"{name}{inspect.signature(found)}" if callable(found) else f"{name} = {found!r}"]


def properties(found: Any) -> list[str]:
    return sorted(name for name, _ in inspect.getmembers(found, lambda member: isinstance(member, property)))


def test_names_signatures_and_fields_are_those_that_users_know() -> None:
    text = "".join(f"{line}\n" for name in NAMES for line in describe(name))
    if os.environ.get("REFRESH_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    changed = set(text.splitlines()) ^ set(GOLDEN.read_text(encoding="utf-8").splitlines())
    assert not changed, (
        f"the public API changed; users import it. If all their calls still work, accept it with "
        f"REFRESH_GOLDEN=1 ./test {Path(__file__).name}, and say so in docs/api.md and CHANGELOG.md: {sorted(changed)}"
    )


@pytest.mark.parametrize(
    ("made", "fields"),
    [
        (nemo_runspec.RunspecRun(), {"launch": "torchrun", "cmd": None, "workdir": None, "packager": "pattern"}),
        (nemo_runspec.RunspecConfig(), {"dir": "./config", "default": "default", "format": "omegaconf"}),
        (nemo_runspec.RunspecResources(), {"nodes": 1, "gpus_per_node": 8}),
        (
            GlobalContext(),
            {"config": None, "run": None, "batch": None, "dry_run": False, "stage": False, "force_squash": False}
            | {"dotlist": [], "passthrough": [], "mode": "local", "profile": None},
        ),
        (
            RecipeConfig(ctx=GlobalContext(batch="lab")),
            {"argv": [], "dotlist": [], "passthrough": [], "mode": "batch", "attached": False, "profile": "lab"}
            | {"config": None, "dry_run": False, "stage": False, "force_squash": False},
        ),
        (
            RecipeMeta(name="a", script_path="b", config_dir="c"),
            {"default_config": "default", "input_artifacts": {}, "output_artifacts": {}, "config_model": None},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_defaults_are_those_of_the_documentation(made: object, fields: dict[str, Any]) -> None:
    assert {name: getattr(made, name) for name in fields} == fields


def test_a_runspec_of_nothing_has_all_defaults_and_is_frozen(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("# /// script\n# [tool.runspec]\n# ///\n")
    spec = nemo_runspec.parse(str(tmp_path / "train.py"))
    assert (spec.schema, spec.docs, spec.name, spec.image, spec.setup, dict(spec.env)) == ("1", "", "", None, "", {})
    assert (spec.script_path, spec.config_dir) == (tmp_path / "train.py", tmp_path / "config")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "x"


@pytest.mark.parametrize("late", [["-r", "lab"], ["--run", "lab"], ["--run=lab"], ["-rlab"]])
def test_late_globals_count_in_each_spelling(late: list[str]) -> None:
    dotlist, passthrough, ctx = split_unknown_args(["a.b=1", *late, "--", "--fast"], GlobalContext(dry_run=True))
    assert (dotlist, passthrough, ctx.run, ctx.dry_run) == (["a.b=1"], ["--fast"], "lab", True)


def text(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


ERRORS = {
    "no script": (FileNotFoundError, lambda at: nemo_runspec.parse(at / "none.py")),
    "no block": (ValueError, lambda at: nemo_runspec.parse(text(at / "a.py", "print()\n"))),
    "no table": (ValueError, lambda at: nemo_runspec.parse(text(at / "a.py", "# /// script\n# [x]\n# ///\n"))),
    "bad TOML": (ValueError, lambda at: nemo_runspec.parse(text(at / "a.py", "# /// script\n# [x\n# ///\n"))),
    "no config": (FileNotFoundError, lambda at: config.find_config_file("tniy", at)),
    "cyclic defaults": (ValueError, lambda at: config.load_config(text(at / "a.yaml", "defaults: a\n"))),
    "bad YAML": (ValueError, lambda at: config.load_config(text(at / "a.yaml", "a: [\n"))),
    "no profile": (ValueError, lambda at: env.load_env_profile("x", text(at / "env.toml", "[lab]\n"))),
    "no parent": (ValueError, lambda at: env.load_env_profile("x", text(at / "env.toml", '[x]\nextends = "y"\n'))),
    "cyclic extends": (ValueError, lambda at: env.load_env_profile("x", text(at / "env.toml", '[x]\nextends = "x"\n'))),
    "no executor": (ValueError, lambda _: create_executor({"executor": "slrum"}, {}, None)),
    "no packager's script": (FileNotFoundError, lambda at: packaging.PatternPackager(at / "a.py", None).build()),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_ours_and_the_documented_ones(tmp_path: Path, case: str) -> None:
    kind, call = ERRORS[case]
    with pytest.raises(kind) as caught:
        call(tmp_path)
    assert isinstance(caught.value, RunspecError)
    assert "\n" not in str(caught.value)


def test_a_missing_config_says_what_was_tried(tmp_path: Path) -> None:
    text(tmp_path / "tiny.yaml", "a: 1\n")
    with pytest.raises(
        FileNotFoundError, match=r"tried: .*tniy\.yaml, .*tniy\.yml; have: tiny\. Did you mean 'tiny'\?"
    ):
        config.find_config_file("tniy", tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["-r", "a", "--batch", "b"], "--run a and --batch b"), (["--stage"], "--stage: needs the place")],
)
def test_options_that_exclude_each_other_end_an_app_with_a_sentence(words: list[str], said: str) -> None:
    app = RecipeTyper()

    @app.recipe_command(meta=RecipeMeta("hello/train", "train.py", "config"))
    def train(ctx: typer.Context) -> None:
        parse_recipe_config(ctx)

    @app.command()
    def other() -> None: ...

    done = CliRunner().invoke(app, ["train", *words])
    assert done.exit_code != 0
    assert said in f"{done.exception}"


def test_a_packager_takes_the_script_and_its_train_config(tmp_path: Path) -> None:
    script = text(tmp_path / "job.py", "print('hello')\n")
    packager = packaging.SelfContainedPackager(script, text(tmp_path / "train.yaml", "a: 1\n"))
    files = {str(place) for place in packager.build().files}
    assert files == {packaging.REMOTE_SCRIPT, packaging.REMOTE_CONFIG} == {"main.py", "config.yaml"}
