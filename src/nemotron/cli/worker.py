"""`nemotron worker`: starts the flow runs of the team's work pool on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nemo_runspec.help_panels import PanelGroup
from nemotron.cli.group import CONTEXT, CommandGroup

if TYPE_CHECKING:
    from nemotron.deployments.worker import WorkerOptions

ABOUT = "A worker that starts the team's flow runs on this machine, and is started again when it dies."
app = CommandGroup(
    help=ABOUT,
    cls=PanelGroup,
    rich_markup_mode=None,
    add_completion=False,
    context_settings=CONTEXT,
    invoke_without_command=True,
)
NAME = typer.Option(None, "--name", help="The worker's name; by default this machine's")


@app.callback()
def worker(
    ctx: typer.Context,
    name: str = NAME,
    pool: str = typer.Option("nemotron", "--pool", help="Work pool, made if there is none"),
    limit: int = typer.Option(None, "--limit", help="How many flow runs at a time; any number by default"),
    detach: bool = typer.Option(False, "--detach", help="Go on in the background"),
) -> None:
    """Run a worker here until it is stopped; its flow runs go on without it."""
    if ctx.invoked_subcommand is not None:
        return
    from nemotron.deployments.worker import WorkerOptions, default_name

    options = WorkerOptions(name=name or default_name(), pool=pool, limit=limit)
    if detach:
        from nemotron.deployments.worker_control import start_worker

        start_worker(_folder(options.name), options)
        typer.echo(f"worker {options.name} runs; nemotron worker status, logs, stop")
    else:
        _stay(options)


@app.command()
def status(name: str = NAME) -> None:
    """Show whether the worker runs, and how many flow runs it has; exit code 1 if it does not."""
    from nemotron.cli.server import program_lines
    from nemotron.deployments.supervisor import read_status
    from nemotron.deployments.worker import default_name, running_flows

    name = name or default_name()
    programs = read_status(_folder(name))
    typer.echo(f"worker {name} {'runs' if programs else 'does not run'}; flow runs: {len(running_flows(name))}")
    for line in program_lines(programs):
        typer.echo(line)
    if not programs:
        raise typer.Exit(1)


@app.command()
def stop(name: str = NAME) -> None:
    """Stop the worker; its flow runs and their jobs go on."""
    from nemotron.deployments.background import stop_owner
    from nemotron.deployments.worker import default_name, running_flows

    name = name or default_name()
    stopped = stop_owner(_folder(name), timeout_s=60.0)
    typer.echo("stopped" if stopped else "it does not run")
    if flows := running_flows(name):
        typer.echo(f"flow runs that go on without it: {', '.join(sorted(flows))}")


@app.command()
def logs(
    name: str = NAME, number: int = typer.Option(20, "-n", "--number", min=1, help="How many lines of each log")
) -> None:
    """Print the last lines of the logs of a worker in the background."""
    from nemotron.deployments.server import last_lines
    from nemotron.deployments.worker import default_name

    typer.echo(last_lines(_folder(name or default_name()), number=number) or "no logs")


def _stay(options: WorkerOptions) -> None:
    from nemotron.deployments.background import log_to_stderr
    from nemotron.deployments.worker_control import check_client
    from nemotron.deployments.worker_process import run_worker

    check_client()
    log_to_stderr()
    run_worker(_folder(options.name), options, to_files=False)


def _folder(name: str) -> Path:
    from nemo_runspec.project import find_project
    from nemotron.deployments.worker import worker_folder

    return worker_folder(find_project() / ".nemotron", name)
