"""A recipe of one script without torch, for tests of what surrounds a script."""

from pathlib import Path

from nemotron.tasks.stage_options import Stage, StageOptions

SCRIPT = """
# /// script
# [tool.runspec]
# name = "small/data"
# [tool.runspec.run]
# launch = "direct"
# [tool.runspec.artifacts]
# inputs = {{ {inputs} }}
# sources = ["sources"]
# output = {{ name = "small-data", type = "SplitJsonlDataArtifact" }}
# ///
import os
from pathlib import Path
from nemo_runspec.artifacts import SplitJsonlDataArtifact, log_artifact, setup_artifact_tracking
from nemo_runspec.errors import DataError
from nemo_runspec.script import load_train_config, run_script

def main(config_path: Path) -> None:
    config = load_train_config(config_path)
    tracking = setup_artifact_tracking(config)
    out = Path(os.environ["NEMO_RUN_DIR"]) / "out"
    out.mkdir(parents=True, exist_ok=True)
    (out / "text").write_text(config["text"])
    {body}
    log_artifact(SplitJsonlDataArtifact(path=out, total_sequences=1), tracking)

if __name__ == "__main__":
    run_script(main)
"""
CONFIG = "text: hello\nsources: []\ncheckpoint: {save_interval: 1}\n"


def write_recipe(folder: Path, *, body: str = "pass", inputs: str = "", config: str = CONFIG) -> Stage:
    """The stage of a recipe in `folder`; `body` is one more statement of its script."""
    script = folder / "recipe" / "stage0" / "data_prep.py"
    (script.parent / "config").mkdir(parents=True, exist_ok=True)
    script.write_text(SCRIPT.format(body=body, inputs=inputs).lstrip())
    (script.parent / "config" / "default.yaml").write_text(config)
    return Stage(name="data_prep", script=script)


def options(
    folder: Path,
    *overrides: str,
    run_id: str = "run-1",
    profile: str | None = None,
    refresh: bool = False,
    plain: bool = False,
) -> StageOptions:
    """Options of a pipeline run in the project `folder`."""
    return StageOptions(
        run_id=run_id, overrides=overrides, profile=profile, project_dir=folder, refresh=refresh, plain=plain
    )
