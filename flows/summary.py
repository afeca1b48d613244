"""What a person sees on the terminal at the end: the table of stages, lineage, a sample before and after RL."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from nemo_runspec.artifacts import ArtifactStore, lineage_text
from nemotron.flows.chain import Pipeline
from nemotron.flows.report import Report
from nemotron.flows.run_facts import COLUMNS, JOB_COLUMNS, job_rows, read_sample, stage_row

NO_TERMINAL_WIDTH = 160


def print_summary(pipeline: Pipeline, report: Report | None, *, title: str = "nano3") -> None:
    """Show table, lineage, sample and where the report is, on standard output."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = NO_TERMINAL_WIDTH
    table = Table(*COLUMNS, title=f"{title} {pipeline.options.config}  {pipeline.options.run_id}")
    for result in pipeline.results:
        table.add_row(*stage_row(result))
    console.print(table)
    if rows := job_rows(pipeline.results):
        jobs = Table(*JOB_COLUMNS, title=f"Slurm jobs, {sum(float(row[-1]) for row in rows):.3f} GPU-hours")
        for row in rows:
            jobs.add_row(*row)
        console.print(jobs)
    store = ArtifactStore(pipeline.options.store_root)
    if pipeline.results and (last := pipeline.results[-1].ref):
        console.print(lineage_text(store, last), markup=False)
    if sample := read_sample(pipeline.results, store):
        console.print(
            f"\nasked {sample['prompt']!r}: before RL {sample['before']!r}, after {sample['after']!r}, "
            f"wanted {sample['answer']!r}",
            markup=False,
        )
    if report is None:
        return
    console.print(f"\nreport: {report.html_path}", markup=False)
    for path in report.pictures:
        console.print(f"{path.stem}: {path}", markup=False)
