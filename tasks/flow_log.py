"""The flow run's log on the Prefect server: beside what our loggers say, how each stage begins and ends."""

from __future__ import annotations

import logging
from collections.abc import Callable

from prefect.logging.handlers import APILogHandler

from nemo_runspec.errors import RunspecError, StageCancelled
from nemotron.tasks.progress import run_log
from nemotron.tasks.stage import StageResult


def logged(stage: str, run: Callable[[], StageResult]) -> StageResult:
    """What it returns; the log says that it began and what became of it."""
    _send_run_log()
    run_log.info("%s: started", stage)
    try:
        result = run()
    except StageCancelled as error:
        run_log.warning("%s", error)
        raise
    except RunspecError as error:
        run_log.error("%s", error)  # its text says all, and Prefect logs the traceback
        raise
    how = f"reused, made by {result.made_by}" if result.reused else f"done in {result.seconds:.1f} s"
    run_log.info("%s: %s%s", stage, how, f": {result.ref}" if result.ref else "")
    return result


def _send_run_log() -> None:
    if not any(isinstance(handler, APILogHandler) for handler in run_log.handlers):
        run_log.addHandler(APILogHandler())
        run_log.setLevel(logging.INFO)
        run_log.propagate = False
