"""Ends jobs that nobody wants any more, on a schedule: `python -m nemotron.tasks.reaper` as a flow."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from nemotron.tasks.reaper import reap


@flow(name="reaper")
def reaper(project_dir: Path) -> int:
    """End the project's jobs whose run was cancelled; how many that were.

    Args:
        project_dir: The project on the worker, with env.toml and .nemotron.
    """
    return reap(project_dir / ".nemotron")
