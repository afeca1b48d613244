"""`nemotron runs`: what is running, how it went, and what can be done about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nemo_runspec.project import find_project
from nemotron.cli.group import new_group

if TYPE_CHECKING:
    from nemotron.flows.run_list import Run

app = new_group("Runs of this project: list them, look at one, follow it, end it, take it up again.")


def complete_run(incomplete: str) -> list[str]:
    """The ids of runs that begin so, newest first."""
    ids = sorted((path.stem for path in (home() / "runs").glob("*.json")), reverse=True)
    return [run_id for run_id in ids if run_id.startswith(incomplete)]


def home() -> Path:
    """Where this project's runs are."""
    return find_project() / ".nemotron"


RUN = typer.Argument(None, metavar="RUN", help="Id of a run, or its beginning or end", autocompletion=complete_run)
AS_JSON = typer.Option(False, "--json", help="As JSON")


@app.command("list")
def list_(
    number: int = typer.Option(20, "-n", "--number", min=1, help="How many, newest first"), as_json: bool = AS_JSON
) -> None:
    """List the runs, newest first."""
    from nemotron.cli.artifact_tables import print_rows
    from nemotron.flows.run_list import list_runs

    runs = list_runs(home())[:number]
    if as_json:
        print_json([run_record(run) for run in runs])
        return
    if not runs:
        typer.echo(f"no runs in {home() / 'runs'}; start one, as nemotron nano3 sft -c tiny", err=True)
        return
    columns = ("run", "what", "config", "profile", "state", "started (UTC)")
    print_rows(columns, [run_row(run) for run in runs])


@app.command()
def show(run: str = RUN, as_json: bool = AS_JSON) -> None:
    """Show what a run was asked to do, how it stands, its stages, jobs and logs; the newest by default."""
    from nemotron.flows.run_list import describe_attempt, find_run, stages_of
    from nemotron.tasks.frozen_refs import read_decisions

    found = find_run(home(), run)
    stages = stages_of(home(), found.run_id)
    decisions = read_decisions(home(), found.run_id)
    record = run_record(found) | {
        "references": [f"{decision.reference}={decision}" for decision in decisions],
        "stages": [
            {
                "stage": stage.name,
                "work_dir": str(stage.work_dir),
                "logs": [str(path) for path in stage.logs()],
                "jobs": [describe_attempt(attempt) for attempt in stage.attempts],
            }
            for stage in stages
        ],
    }
    if as_json:
        print_json(record)
        return
    for key, value in record.items():
        if key != "stages":
            shown = " ".join(value) if isinstance(value, list) else value
            typer.echo(f"{key:12} {'' if shown is None else shown}".rstrip())
    for stage in stages:
        typer.echo(f"\n{stage.name}")
        for line in (*map(describe_attempt, stage.attempts), *(f"log: {path}" for path in stage.logs())):
            typer.echo(f"    {line}")


@app.command()
def logs(
    run: str = RUN,
    follow: bool = typer.Option(False, "-f", "--follow", help="Go on until the run has ended"),
    stage: str = typer.Option(None, "--stage", help="Only this stage"),
) -> None:
    """Print what the stages of a run print; of the newest run by default."""
    from nemotron.flows.run_list import find_run
    from nemotron.flows.run_logs import print_logs

    print_logs(home(), find_run(home(), run).run_id, follow=follow, stage=stage)


@app.command()
def cancel(
    run: str = typer.Argument(..., metavar="RUN", help="Id of a run", autocompletion=complete_run),
    wait_s: float = typer.Option(120.0, "--wait-s", min=0, help="Seconds to wait until it has ended"),
) -> None:
    """End a run: its processes and its Slurm jobs. It can be taken up again with `retry`."""
    from nemotron.flows.run_control import cancel_and_wait
    from nemotron.flows.run_list import find_run

    typer.echo(cancel_and_wait(home(), find_run(home(), run), wait_s=wait_s))


@app.command()
def attach(run: str = RUN) -> int:
    """Follow a run, the newest by default; one that nobody drives any more is taken up. Ends as the run does."""
    from nemotron.flows.run_control import attach_run
    from nemotron.flows.run_list import find_run

    return attach_run(home(), find_run(home(), run))


@app.command()
def retry(run: str = RUN) -> int:
    """Take up a run that failed, was cancelled or interrupted; finished stages are not run again."""
    from nemotron.flows.run_control import retry_run
    from nemotron.flows.run_list import find_run

    return retry_run(home(), find_run(home(), run))


def run_row(run: Run) -> tuple[str, ...]:
    """The cells of a run in the list."""
    request = run.request
    state = f"{run.state} ({run.exit_code})" if run.state == "failed" else run.state
    started = f"{run.started:%Y-%m-%d %H:%M:%S}"
    return (run.run_id, request.recipe, request.config, request.profile or "", state, started)


def run_record(run: Run) -> dict[str, Any]:
    """All that is known of a run, but for its stages."""
    from nemo_runspec.config.provenance import hide_secrets

    request = run.request
    return {
        "run": run.run_id,
        "state": run.state,
        "exit_code": run.exit_code,
        "what": request.recipe,
        "config": request.config,
        "profile": request.profile,
        "overrides": hide_secrets(list(request.overrides)),
        "started": run.started.isoformat(timespec="seconds"),
        "driver": run.driver,
        "directory": request.directory,
    }


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    import json

    typer.echo(json.dumps(value, indent=1))
