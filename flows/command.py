"""The command line of a flow script: parse, set Prefect up (or leave it out), run, show the summary."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from nemo_runspec.errors import ConfigError, RequirementError, RunspecError, StageCancelled, StageFailed
from nemo_runspec.project import find_project
from nemo_runspec.settings import load_settings
from nemotron.blocks.profile_lookup import prefect_api_url
from nemotron.flows.chain import Pipeline
from nemotron.flows.embedded_server import check_server, embedded_server
from nemotron.flows.nano3_stages import STAGES
from nemotron.flows.pipelines import check_shown, new_pipeline, run_flow, walk
from nemotron.flows.runs import (
    CANCELLED,
    LOCK_VARIABLE,
    RunRequest,
    driving,
    exit_code,
    follow,
    forget_end,
    load_request,
    record_end,
    save_request,
    start_in_background,
)
from nemotron.tasks.interrupts import Detached

EPILOG = f"""\
overrides: STAGE.key=value changes one setting of one stage, e.g.
  sft.train.train_iters=50   rl.optimizer.lr=1e-4   data_prep_pretrain.sources.0.path=my.txt
stages: {", ".join(STAGES)}

Artifacts, checkpoints, logs and reports lie under .nemotron/ of the current directory. A second run reuses every stage
whose settings, code and inputs are unchanged, and continues an interrupted one from its last checkpoint.
"""


OWN_LOGGERS = ("nemo_runspec", "nemotron")


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
    parser.add_argument("--logs", action="store_true", help="show what the stages print")
    parser.add_argument("--detach", action="store_true", help="run in the background, also after this login ends")
    parser.add_argument("--attach", metavar="RUN_ID", help="follow a run or take it up again; no job is repeated")
    parser.add_argument("--refresh", action="store_true", help="run the stages even if their artifacts exist")
    parser.add_argument("--project", type=Path, metavar="DIR", help="where .nemotron is; found from here up by default")
    parser.add_argument("--plain", action="store_true", help="in this process, without Prefect; breakpoint() works")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 2 when refused; that of the script when it failed; 130 when interrupted or cancelled."""
    args = build_parser().parse_intermixed_args(argv)
    home = (args.project or find_project()).absolute() / ".nemotron"
    set_up(home)

    inherits = LOCK_VARIABLE in os.environ  # this is the process in the background

    def run() -> int:
        request = load_request(home, args.attach) if args.attach else new_request(args)
        enter(request)
        if args.plain and args.detach:
            raise ConfigError("--plain and --detach: a run in this process cannot go on without it; drop one of them")
        return run_or_follow(request, home, plain=args.plain, detach=args.detach)

    code = told(run)
    if inherits and exit_code(home, args.attach) is None:  # refused before it came to drive the run
        record_end(home, args.attach, code)
    return code


def enter(request: RunRequest) -> None:
    """Go to the directory where the run was asked for, of which its relative paths are.

    Raises:
        ConfigError: it is gone.
    """
    try:
        os.chdir(request.directory)
    except OSError as error:
        raise ConfigError(
            f"run {request.run_id}: it was started in {request.directory}, which cannot be entered: {error.strerror}"
        ) from error


def set_up(home: Path) -> None:
    """Prepare this process for running stages: Prefect quiet, our own log on standard error."""
    for name, value in prefect_settings(home).items():  # a profile may be a block: Prefect is imported to look
        os.environ.setdefault(name, value)
    show_job_states()


def told(action: Callable[[], int]) -> int:
    """Do it and say in a line what ended it early, unless it goes on elsewhere; the exit code."""
    try:
        return action()
    except StageCancelled as cancelled:
        print(f"cancelled: {cancelled}", file=sys.stderr)  # noqa: T201
        return CANCELLED
    except StageFailed as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except RunspecError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except RunCancelled as cancelled:
        print(f"cancelled: {cancelled}", file=sys.stderr)  # noqa: T201
        return CANCELLED
    except Detached:
        raise
    except KeyboardInterrupt as interrupt:
        line = str(interrupt) or "the same command continues from the last checkpoint"
        print(f"interrupted: {line}", file=sys.stderr)  # noqa: T201
        return CANCELLED


class RunCancelled(Exception):
    """The run was cancelled on the Prefect server."""


def new_run_id() -> str:
    """An id that begins with the time."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}"


def new_request(args: argparse.Namespace) -> RunRequest:
    """What the command line asks for, under a new id."""
    return RunRequest(
        run_id=new_run_id(),
        config=args.config,
        stages=tuple(name for name in args.stages.split(",") if name),
        overrides=tuple(args.overrides),
        profile=args.profile or load_settings().profile,
        refresh=args.refresh,
        show_logs=args.logs,
        detached=args.detach,
    )


def say_left(run_id: str) -> None:
    """Tell how to come back to a run that goes on in the background."""
    print(f"run {run_id} goes on in the background; follow it with --attach {run_id}")  # noqa: T201


def run_or_follow(
    request: RunRequest,
    home: Path,
    *,
    plain: bool,
    detach: bool,
    again: bool = False,
    say: Callable[[str], None] = say_left,
) -> int:
    """Drive the run to its end, here or in the background, or follow the process that drives it; the exit code.

    With `again` a cancel of it that came before counts no more; nor does one of a run that has ended.
    """
    run_id = request.run_id
    if not plain and needs_prefect(request):
        require_prefect()
        check_shown(request)
    pipeline = new_pipeline(request, plain=plain, project_dir=home.parent)
    save_request(home, request)
    with driving(home, run_id) as lock:
        if lock is not None:
            if again or exit_code(home, run_id) is not None:
                forget_end(home, run_id)
            if detach:
                start_in_background(home, run_id, lock)
                say(run_id)
                return 0
            try:
                code = told(lambda: drive(request, pipeline))
            except Detached:
                start_in_background(home, run_id, lock)
                say(run_id)
                return 0
            except Exception:
                record_end(home, run_id, 1)
                raise
            record_end(home, run_id, code)
            return code
    if detach:
        print(f"run {run_id} is under way already; follow it with --attach {run_id}")  # noqa: T201
        return 0
    try:
        return follow(home, run_id)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"run {run_id} goes on in the background; follow it with --attach {run_id}") from None


def drive(request: RunRequest, pipeline: Pipeline) -> int:
    """Run the stages in this process and show the summary; 0. A stage alone needs no server if none is configured."""
    if pipeline.options.plain or not needs_prefect(request):
        walk(request, pipeline)
    else:
        pipeline = run_with_prefect(request, pipeline)
    show_summary(request, pipeline)
    return 0


def needs_prefect(request: RunRequest) -> bool:
    """Whether the run is a flow; that of a stage alone is one only where a server is configured."""
    return request.script is None or prefect_api_url() is not None


def require_prefect() -> None:
    """Raise RequirementError where Prefect is not installed."""
    if importlib.util.find_spec("prefect") is None:
        raise RequirementError(
            "a pipeline needs Prefect, which is not installed, and so does a stage where PREFECT_API_URL is set; "
            "pip install 'nemotron-flows[flows]'"
        )


def run_with_prefect(request: RunRequest, pipeline: Pipeline) -> Pipeline:
    """Run the stages as a Prefect flow, on the user's server if one is set, else on an embedded one."""
    home = pipeline.options.home
    from prefect.exceptions import CancelledRun

    try:
        with prefect_server(home / "prefect" / "server.log"):
            return run_flow(request, pipeline.options.project_dir)
    except CancelledRun as cancelled:
        raise RunCancelled(str(cancelled)) from cancelled


class CurrentStderr(logging.StreamHandler[TextIO]):
    """Writes to what is standard error now: a progress bar puts itself in its place."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # a plain attribute there
        return sys.stderr


def show_job_states() -> None:
    """Print what our own code logs, one line a change of state; handlers that Prefect gave our loggers stay."""
    handler = CurrentStderr()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    for name in OWN_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler, *(it for it in logger.handlers if not isinstance(it, logging.StreamHandler))]
        logger.setLevel(logging.INFO)
        logger.propagate = False


def prefect_settings(home: Path) -> dict[str, str]:
    """Environment defaults for Prefect: quiet, state under the project unless the user has a Prefect of their own.

    This command tells of each failure itself, in a line; Prefect would add its traceback. What our code logs within a
    flow run goes to the server, too.
    """
    settings = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(OWN_LOGGERS),
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }
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


def show_summary(request: RunRequest, pipeline: Pipeline) -> None:
    """Print the summary, and write the report of a whole pipeline unless its flow has done so."""
    from nemotron.flows.report import find_report, try_report
    from nemotron.flows.summary import print_summary

    report = (try_report if pipeline.options.plain else find_report)(pipeline) if request.script is None else None
    print_summary(pipeline, report, title=request.recipe)


if __name__ == "__main__":
    raise SystemExit(main())
