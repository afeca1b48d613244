"""`nemotron doctor`: whether this installation, this project and what they need are in order.

A check is a function without arguments that returns checks; it is added by naming it in `sections`. It imports what it
needs itself, neither Prefect nor torch nor ray, and leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from nemo_runspec.checks import Check


def doctor(
    as_json: bool = typer.Option(False, "--json", help="As JSON"),
    build_nemo_run: bool = typer.Option(
        False, "--build-nemo-run", help="Build NeMo-Run's environment now, for machines without internet"
    ),
) -> None:
    """Check this installation and this project; exit code 1 if something cannot work."""
    from nemotron.cli.check_report import report_checks

    if build_nemo_run:
        _build_nemo_run()
    report_checks(check_all(), as_json=as_json)


def check_all() -> Iterator[Check]:
    """All checks, each as soon as it is made; an error that is one of ours is a failed check."""
    from nemo_runspec.checks import failed
    from nemo_runspec.errors import RunspecError

    for name, check in sections():
        try:
            yield from check()
        except (RunspecError, OSError) as error:
            yield failed(name, str(error))


def sections() -> tuple[tuple[str, Callable[[], list[Check]]], ...]:
    """Every check with its name, in the order in which they are shown."""
    from nemotron.cli import installation_check as installation
    from nemotron.cli import project_check as project
    from nemotron.cli import recipe_check as recipes
    from nemotron.cli import wandb_check

    return (
        ("Python", installation.check_python),
        ("nemotron-flows", installation.check_package),
        ("extras", installation.check_extras),
        ("nemo-run", installation.check_nemo_run),
        ("GPUs", installation.check_gpus),
        ("git", installation.check_git),
        ("project", project.check_project),
        (".nemotron", project.check_home),
        ("artifact store", project.check_store),
        ("env.toml", project.check_profiles),
        ("recipes", recipes.check_recipes),
        ("Prefect", project.check_prefect),
        (wandb_check.NAME, wandb_check.check_wandb),
    )


def _build_nemo_run() -> None:
    from nemo_runspec.submitters.with_nemo_run import build_environment

    typer.echo("building NeMo-Run's environment (0.5 GB) …", err=True)
    build_environment()
    typer.echo("it is built; machines without internet need the same UV_CACHE_DIR", err=True)
