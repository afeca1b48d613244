"""What a flow does when it is cancelled on the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State

from nemotron.tasks.reaper import cancel_run


def cancel_jobs(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """End the run's Slurm jobs, should its process not have been left the time to; never when it crashed."""
    home = Path(flow_run.parameters.get("project_dir") or Path.cwd()) / ".nemotron"
    cancel_run(home, flow_run.parameters.get("run_id") or str(flow_run.id), why="the run was cancelled")
