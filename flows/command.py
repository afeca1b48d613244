"""The command line of a flow script: parse, set Prefect up (or leave it out), run, show the summary."""

from __future__ import annotations

import argparse
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from nemo_runspec.errors import RunspecError
from nemotron.flows.chain import Pipeline
from nemotron.flows.embedded_server import check_server, embedded_server
from nemotron.flows.nano3_stages import STAGES, new_pipeline, run_chain

EPILOG = f"""\
overrides: STAGE.key=value changes one setting of one stage, e.g.
  sft.train.train_iters=50   rl.optimizer.lr=1e-4   data_prep_pretrain.sources.0.path=my.txt
stages: {", ".join(STAGES)}

Artifacts, checkpoints, logs and reports lie under .nemotron/ of the current directory. A second run reuses every stage
whose settings, code and inputs are unchanged, and continues an interrupted one from its last checkpoint.
"""


def build_parser() -> argparse.ArgumentParser:
    """The options of `python flows/nano3.py`."""
    parser = argparse.ArgumentParser(
        prog="nano3.py",
        description="Train, tune and align a nano3 model: data prep, pretrain, SFT, RL.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="STAGE.key=value", help="change a setting of a stage")
    parser.add_argument("-c", "--config", default="tiny", help="config of every stage: tiny (default), default")
    parser.add_argument("--profile", help="where to run: a table of env.toml")
    parser.add_argument("--stages", default="", help="only these, comma-separated; others' newest artifacts are used")
    parser.add_argument("--refresh", action="store_true", help="run the stages even if their artifacts exist")
    parser.add_argument("--plain", action="store_true", help="in this process, without Prefect; breakpoint() works")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 2 when refused or failed; 130 when interrupted."""
    args = build_parser().parse_intermixed_args(argv)
    run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"
    stages = tuple(name for name in args.stages.split(",") if name)
    try:
        pipeline = new_pipeline(
            config=args.config,
            run_id=run_id,
            stages=stages,
            overrides=tuple(args.overrides),
            profile=args.profile,
            refresh=args.refresh,
            plain=args.plain,
        )
        if args.plain:
            run_chain(pipeline)
        else:
            pipeline = run_with_prefect(pipeline, stages, tuple(args.overrides))
        show_summary(pipeline)
    except RunspecError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command continues from the last checkpoint", file=sys.stderr)  # noqa: T201
        return 130
    return 0


def run_with_prefect(pipeline: Pipeline, stages: tuple[str, ...], overrides: tuple[str, ...]) -> Pipeline:
    """Run the chain as a Prefect flow, on the user's server if one is set, else on an embedded one."""
    for name, value in prefect_settings(pipeline.options.home).items():
        os.environ.setdefault(name, value)
    from nemotron.flows.nano3 import nano3

    options = pipeline.options
    with prefect_server(options.home / "prefect" / "server.log"):
        return nano3(
            config=options.config,
            run_id=options.run_id,
            stages=stages,
            overrides=overrides,
            profile=options.profile,
            refresh=options.refresh,
            project_dir=options.project_dir,
        )


def prefect_settings(home: Path) -> dict[str, str]:
    """Environment defaults for Prefect: quiet, state under the project unless the user has a Prefect of their own.

    This command tells of each failure itself, in a line; Prefect would add its traceback.
    """
    settings = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "CRITICAL"}
    if not (Path.home() / ".prefect" / "profiles.toml").exists():
        settings["PREFECT_HOME"] = str((home / "prefect").absolute())
    return settings


@contextmanager
def prefect_server(log_path: Path) -> Iterator[None]:
    """Have a Prefect server for the block."""
    from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

    if own_url := PREFECT_API_URL.value():
        check_server(own_url)
        yield
        return
    with (
        embedded_server(log_path) as url,
        # Logs are sent in the background, some of them when this server is gone.
        temporary_settings({PREFECT_API_URL: url, PREFECT_LOGGING_TO_API_ENABLED: False}),
    ):
        yield


def show_summary(pipeline: Pipeline) -> None:
    """Print the summary and write the report."""
    from nemotron.flows.summary import print_summary, write_report

    report = write_report(pipeline)
    print_summary(pipeline, report)
