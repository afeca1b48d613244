"""`nemotron deploy`: the project's deployments on the Prefect server that is configured."""

from __future__ import annotations

import os
from pathlib import Path

import typer


def deploy(
    only: list[str] = typer.Option(None, "--only", metavar="FLOW/NAME", help="Only this deployment; repeatable"),
    file: Path = typer.Option(None, "--file", metavar="F", help="Instead of prefect.yaml of the project, or ours"),
    dry_run: bool = typer.Option(False, "--dry-run", "-d", help="Show what would change"),
) -> None:
    """Register the deployments of nano3, their work pool and automations; what is so already is left alone."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from nemo_runspec.project import find_project
    from nemotron.deployments.worker_control import check_client

    url = check_client()
    from nemotron.deployments.deploy import DeployOptions
    from nemotron.deployments.deploy import deploy as run

    options = DeployOptions(project=find_project(), file=file, only=tuple(only or ()), dry_run=dry_run)
    for line in run(options, url):
        typer.echo(line, err=line.startswith("note: "))
