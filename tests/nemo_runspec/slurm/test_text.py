"""What Slurm's programs print, parsed; the lines are of a real Slurm 22.05."""

import pytest

from nemo_runspec.slurm import text


@pytest.mark.parametrize(
    ("printed", "job_id"),
    [
        ("12\n", 12),
        ("12;cluster2\n", 12),
        ("welcome to site X\n12\n", 12),
        ("", None),
        ("sbatch: queued 12 jobs\n", None),
    ],
)
def test_the_job_id_is_found_among_what_a_site_adds(printed: str, job_id: int | None) -> None:
    assert text.parse_job_id(printed) == job_id


def test_a_queue_row_with_bars_in_the_name_is_parsed() -> None:
    line = "8|RUNNING|2026-11-24T11:00:00|2026-11-24T11:00:02|N/A|node[1-2]|None|we|ird"
    (row,) = text.parse_queue(f"slurm_load_jobs: note\n{line}\n")
    assert (row.job_id, row.name, row.state, row.nodes) == (8, "we|ird", "RUNNING", "node[1-2]")
    assert row.started is not None
    assert row.submitted == row.started - 2
    assert row.ended is None


def test_an_accounting_row_gives_gpus_and_the_first_word_of_the_state() -> None:
    line = (
        "9|CANCELLED by 0|0:0|0:0|2026-11-24T11:00:00|2026-11-24T11:00:05|2026-11-24T12:00:05|node1|"
        "billing=4,cpu=4,gres/gpu=8,node=1|None|key-a1"
    )
    (row,) = text.parse_accounting(line + "\n9.batch|nonsense\n")
    assert (row.state, row.num_gpus, row.name, row.ended) == ("CANCELLED", 8, "key-a1", row.started + 3600)  # type: ignore[operator]


def test_many_jobs_are_asked_for_in_chunks() -> None:
    commands = text.sacct_by_ids(range(1, 1201))
    assert [command[command.index("-j") + 1].count(",") + 1 for command in commands] == [500, 500, 200]
