"""What a Slurm job reads."""

from pathlib import Path

from omegaconf import OmegaConf

from nemotron.tasks.job_files import make_sources_absolute


def test_input_files_are_found_from_wherever_the_job_starts() -> None:
    sources = [{"name": "mine", "path": "my.txt"}, {"name": "theirs", "path": "/data/theirs.txt"}]
    train = OmegaConf.create({"sources": sources, "chats": ["a.jsonl", "${oc.env:HOME}/b.jsonl"], "none": None})

    make_sources_absolute(train, ["sources", "chats", "none", "absent"], Path("/home/me/project"))

    assert OmegaConf.to_container(train, resolve=False) == {
        "sources": [
            {"name": "mine", "path": "/home/me/project/my.txt"},
            {"name": "theirs", "path": "/data/theirs.txt"},
        ],
        "chats": ["/home/me/project/a.jsonl", "${oc.env:HOME}/b.jsonl"],
        "none": None,
    }
