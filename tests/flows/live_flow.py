"""A flow that runs a small stage, which waits to be watched, and then again; all in the directory that is its argument.

At each of `WATCHED_STEPS` it goes on once `seen(folder, step)` exists.
"""

import sys
from dataclasses import replace
from pathlib import Path

from small_recipe import options, write_recipe

from nemotron.flows import command

NUM_STEPS, NUM_LINES = 30, 100
WATCHED_STEPS = (5, 12, 20)


def seen(folder: Path, step: int) -> Path:
    """To be touched by who has seen that step on the page."""
    return folder / f"seen-{step}"


def body(folder: Path) -> str:
    """What the stage does."""
    awaited = {step: str(seen(folder, step)) for step in WATCHED_STEPS}
    return f"""
    from nemo_runspec.metrics_log import MetricsLog
    import time
    awaited = {awaited}
    log = MetricsLog(total={NUM_STEPS})
    for step in range(1, {NUM_STEPS} + 1):
        print("at step", step, flush=True)
        log.log(step, {{"loss": 8 / step, "lr": 2.5e-5, "tokens_per_s": 9120.0}})
        while step in awaited and not Path(awaited[step]).exists():
            time.sleep(0.05)
        time.sleep(0.1)
    print("\\n".join(f"line {{number}}" for number in range({NUM_LINES})), flush=True)
""".strip()


def main(folder: Path) -> None:
    command.set_up(folder / ".nemotron")  # before Prefect is imported, as the command does
    from prefect import flow

    from nemotron.flows import live_page
    from nemotron.flows.ui_artifacts import shown
    from nemotron.tasks.stage_tasks import runner, train

    live_page.LOOK_EVERY_S = live_page.EVERY_S = 0.3  # type: ignore[misc]
    stage = write_recipe(folder, body=body(folder))
    run = shown(runner(train))

    @flow
    def live() -> None:
        for run_id in ("run-1", "run-2"):
            run(stage, replace(options(folder, run_id=run_id), show_logs=True), {})

    live()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
