"""What publishing to the artifact store costs, beside W&B's own Artifact on the same files: medians of runs in turns.

rate: publishes a second of one small file, all to one name in one store, by 1 and by 8 processes for 4 s.

publish: from the call to the version being on disk, into a new store each time, beside `wandb.Artifact.add_…` in this
process. That is only W&B's first step: it syncs nothing to disk, and logging and uploading come after it. The 50 GB are
a file of holes.

digests: one pass over a file in the page cache.
"""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

from nemo_runspec.artifacts import ArtifactStore, Producer
from nemo_runspec.artifacts.digests import CHUNK_BYTES, Hasher, new_hasher, sampled_digest

ROUNDS = 5
RATE_S = 4.0
GIB = 1 << 30
NUM_SMALL = 1_000
PUBLISH = "`publish`"
PRODUCER = Producer(run_id="benchmark", stage="none", fingerprint="")
HASHERS: Mapping[str, Callable[[], Hasher]] = {
    "MD5": hashlib.md5,
    "SHA-1": hashlib.sha1,
    "SHA-256": hashlib.sha256,
    "BLAKE2b": hashlib.blake2b,
    "BLAKE3": lambda: new_hasher("blake3"),
}

Action = Callable[[Path], object]


def main() -> None:
    """Print the tables."""
    load, begin = os.getloadavg()[0], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        os.environ |= {f"WANDB_{name}": folder for name in ("DIR", "DATA_DIR", "CACHE_DIR", "CONFIG_DIR")}
        os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
        # The disk is slower for a while after gigabytes were written and deleted: what writes little comes first.
        for build_lines in (rate_lines, small_lines, large_lines, digest_lines):
            print("\n".join([*build_lines(scratch), ""]), flush=True)  # noqa: T201
    after = os.getloadavg()[0]
    print(f"load before {load:.1f}, after {after:.1f}; {time.perf_counter() - begin:.0f} s in all")  # noqa: T201


def rate_lines(scratch: Path) -> list[str]:
    """The table of publishes a second; fails if one that was acknowledged is not there."""
    lines = ["| processes | publishes a second, in all | of one process's |", "|---|---|---|"]
    rates: list[float] = []
    for num_processes in (1, 8):
        root = scratch / f"store-{num_processes}"
        with multiprocessing.get_context("fork").Pool(num_processes) as pool:
            acknowledged = sum(pool.map(publish_for_a_while, [root] * num_processes, chunksize=1))
        assert len(ArtifactStore(root).version_names("data")) == acknowledged
        rates.append(acknowledged / RATE_S)
        lines.append(f"| {num_processes} | {rates[-1]:.0f} | {rates[-1] / rates[0]:.2f} |")
    return lines


def publish_for_a_while(root: Path) -> int:
    """How many versions of its own small file this process could publish."""
    path = root.parent / f"own-{os.getpid()}"
    store, number, end = ArtifactStore(root), 0, time.monotonic() + RATE_S
    while time.monotonic() < end:
        path.write_text(f"{os.getpid()} {number}")
        store.publish(path, name="data", type="Data", metadata={}, producer=PRODUCER)
        number += 1
    return number


def small_lines(scratch: Path) -> list[str]:
    """The table of 1,000 files of 1 KiB."""
    files = scratch / "small"
    files.mkdir()
    for number in range(NUM_SMALL):
        (files / str(number)).write_bytes(os.urandom(1024))
    copied = {PUBLISH: publish(files), "W&B `add_dir`": wandb_adds("add_dir", files)}
    referenced = {
        PUBLISH: publish(files, policy="reference", digest="full"),
        "W&B `add_reference`": wandb_adds("add_reference", files.as_uri()),
    }
    lines = [f"| {NUM_SMALL:,} × 1 KiB | median, s | of `publish`'s |", "|---|---|---|"]
    return lines + turn_rows("copied", copied, scratch) + turn_rows("referenced, full digest", referenced, scratch)


def large_lines(scratch: Path) -> list[str]:
    """The table of one large file."""
    gib, sparse = write_gib(scratch), scratch / "sparse" / "file"
    sparse.parent.mkdir()
    with sparse.open("wb") as file:
        file.truncate(50 * 10**9)
    sampled = {
        PUBLISH: publish(sparse, policy="reference", digest="sampled"),
        "W&B `add_reference(checksum=False)`": wandb_adds("add_reference", sparse.as_uri(), checksum=False),
    }
    referenced = {
        PUBLISH: publish(gib, policy="reference", digest="full"),
        "W&B `add_reference`": wandb_adds("add_reference", gib.as_uri()),
    }
    copied = {
        PUBLISH: publish(gib),
        "W&B `add_file`": wandb_adds("add_file", gib),
        "copied and synced, no digest": lambda folder: copy_synced(gib, folder / "copy"),
    }
    return [
        "| one file | median, s | of `publish`'s |",
        "|---|---|---|",
        *turn_rows("50 GB referenced, sampled digest", sampled, scratch),
        *turn_rows("1 GiB referenced, full digest", referenced, scratch),
        *turn_rows("1 GiB copied", copied, scratch),
    ]


def digest_lines(scratch: Path) -> list[str]:
    """The table of the digests."""
    path = write_gib(scratch)
    actions: dict[str, Action] = {name: partial(read_through, path, build) for name, build in HASHERS.items()}
    actions["sampled BLAKE3"] = lambda _: sampled_digest(path)
    medians = time_in_turns(actions, scratch)
    head = ["| 1 GiB, one thread | median, s | GB/s | of BLAKE3's time |", "|---|---|---|---|"]
    return head + [
        f"| {name} | {median:.4f} | {GIB / median / 1e9:.2f} | {median / medians['BLAKE3']:.3g} |"
        for name, median in medians.items()
    ]


def read_through(path: Path, build_hasher: Callable[[], Hasher], _: Path) -> None:
    """Digest the file."""
    hasher = build_hasher()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            hasher.update(chunk)
    hasher.hexdigest()


def write_gib(scratch: Path) -> Path:
    """1 GiB of noise, written once."""
    path = scratch / "gib" / "file"
    if not path.exists():
        path.parent.mkdir()
        with path.open("wb") as file:
            for _ in range(GIB // CHUNK_BYTES):
                file.write(os.urandom(CHUNK_BYTES))
    return path


def turn_rows(heading: str, actions: Mapping[str, Action], scratch: Path) -> list[str]:
    """A row for each action; ratios are to the first."""
    medians = time_in_turns(actions, scratch)
    first = next(iter(medians.values()))
    return [f"| {heading}: {name} | {median:.3f} | {median / first:.2f} |" for name, median in medians.items()]


def time_in_turns(actions: Mapping[str, Action], scratch: Path) -> dict[str, float]:
    """Median seconds of each; it is given a new directory. The first round warms up and does not count."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(ROUNDS + 1):
        for name, act in actions.items():
            folder = scratch / "turn"
            folder.mkdir()
            os.sync()
            begin = time.perf_counter()
            act(folder)
            times[name].append(time.perf_counter() - begin)
            shutil.rmtree(folder)
    return {name: statistics.median(measured[1:]) for name, measured in times.items()}


def publish(path: Path, **options: Any) -> Action:
    """Publishes to a new store."""
    return lambda folder: ArtifactStore(folder).publish(
        path, name="data", type="Data", metadata={}, producer=PRODUCER, **options
    )


def wandb_adds(method: str, *arguments: object, **options: object) -> Action:
    """Adds to a new W&B artifact, which stages copies in the directory."""
    import wandb

    def add(folder: Path) -> None:
        os.environ["WANDB_DATA_DIR"] = str(folder)
        with redirect_stderr(io.StringIO()):
            getattr(wandb.Artifact("data", "Data"), method)(*map(str, arguments), **options)

    return add


def copy_synced(source: Path, target: Path) -> None:
    """What a copy that is on disk costs at least."""
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
