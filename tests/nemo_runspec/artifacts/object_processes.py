"""Several processes at one store behind a URL: `python object_processes.py PART LOCATION FOLDER NUMBER`.

The number is how many processes there are, or are killed, or how many seconds to go on.

They are forks of this one, which itself does not talk to the server before.
"""

import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import s3fs  # noqa: F401  imported once, before the forks
from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.artifacts.gc import collect_garbage
from nemo_runspec.artifacts.object_backend import ObjectBackend
from nemo_runspec.artifacts.object_files import ObjectFiles
from nemo_runspec.artifacts.object_leases import LeaseTimes
from nemo_runspec.errors import StoreError

NUM_PUBLISHERS = 4
STALE_S = 10.0


def kill_publishers(location: str, folder: Path, num_kills: float) -> dict[str, int]:
    """Kill one of several publishers again and again while somebody reads; what counts is what each was told."""
    stop, has_read = folder / "stop", folder / "has-read"
    reader = fork(lambda: read_until(stop, location, folder))
    publishers = [fork(lambda: publish_on(location, folder)) for _ in range(NUM_PUBLISHERS)]
    for _ in range(int(num_kills)):
        told = count_told(folder)
        while count_told(folder) == told:
            time.sleep(random.uniform(0, 0.1))
        position = random.randrange(NUM_PUBLISHERS)
        kill(publishers[position])
        publishers[position] = fork(lambda: publish_on(location, folder))
    for publisher in publishers:
        kill(publisher)
    while not has_read.exists():
        time.sleep(0.05)
    stop.touch()
    assert join(reader)
    counts: dict[str, int] = in_fork(folder, lambda: check_told(location, folder))
    return counts | {"reads": int((folder / "reads").read_text())}


def publish_on(location: str, folder: Path) -> None:
    """Publish until killed; what was acknowledged is in a file of this process's own."""
    publish = Publisher(ArtifactStore(location), folder / "sources")
    with (folder / f"told-{os.getpid()}").open("a", buffering=1) as told:
        for number in itertools.count():
            text = f"{os.getpid()}-{number}"
            ref = publish({"a": text}, metadata={"text": text})
            told.write(f"{ref.version} {text}\n")


def count_told(folder: Path) -> int:
    """How many versions were acknowledged so far."""
    return sum(len(path.read_text().splitlines()) for path in folder.glob("told-*"))


def read_until(stop: Path, location: str, folder: Path) -> None:
    """Read what is there again and again; each record and each content must be whole."""
    store, reads = ArtifactStore(location), 0
    while not stop.exists():
        versions = store.version_names("data")
        assert versions == [f"v{number}" for number in range(len(versions))]
        for version in random.sample(versions, min(3, len(versions))):
            ref = store.read_record("data", version).ref
            store.verify(ref)
            reads += 1
            (folder / "has-read").touch()
    (folder / "reads").write_text(str(reads))


def check_told(location: str, folder: Path) -> dict[str, int]:
    """Each acknowledged version is there as it was told, and all that is there is whole."""
    store = ArtifactStore(location)
    refs = store.versions("data")
    texts = {ref.version: ref.metadata["text"] for ref in refs}
    told = dict(line.split() for path in folder.glob("told-*") for line in path.read_text().splitlines())
    assert {version: texts.get(version) for version in told} == told
    assert list(texts) == [f"v{number}" for number in range(len(texts))]
    for ref in refs:
        store.verify(ref)
    return {"told": len(told), "there": len(refs)}


def collect_meanwhile(location: str, folder: Path, duration_s: float) -> dict[str, int]:
    """Collect garbage again and again while some publish, and one gives the same contents up."""

    def collect() -> None:
        store = open_store(location)
        deleted = [len(collect_garbage(store, wait_s=60)) for _ in seconds(duration_s)]
        (folder / "runs").write_text(json.dumps({"runs": len(deleted), "deleted": sum(deleted)}))

    def publish() -> None:
        store = open_store(location)
        for _ in seconds(duration_s, pause_s=0.05):
            store.materialize(publish_as(store, folder, "data", of_now()))

    def give_up() -> None:
        store = open_store(location)
        for number in seconds(duration_s, pause_s=0.05):
            ref = publish_as(store, folder, "gone", of_now() + number % 2)
            store.backend.delete(f"artifacts/gone/versions/{ref.version}.json")

    processes = [fork(work) for work in (collect, publish, publish, give_up)]
    assert all(map(join, processes))
    counts: dict[str, int] = in_fork(folder, lambda: check_texts(location))
    return counts | json.loads((folder / "runs").read_text())


def check_texts(location: str) -> dict[str, int]:
    """All that was published is there, and can be set out on a machine that has nothing of it yet."""
    store = open_store(location)
    shutil.rmtree(os.environ["NEMOTRON_CACHE"])
    refs = store.versions("data")
    for ref in refs:
        assert (store.materialize(ref) / "a").read_text() == ref.metadata["text"]
    return {"published": len(refs)}


def stop_publisher(location: str, folder: Path, duration_s: float) -> dict[str, int]:
    """Stop a publisher in its work until its lease counts as a dead one's, collect, and let it go on."""

    def publish() -> None:
        backend = ObjectBackend(location, LeaseTimes(renew_s=0.2, stale_s=STALE_S))
        backend.status("format.json")  # the first request takes long
        try:
            with backend.writing() as writer:
                writer.put("objects/blake3/ab/cd/" + 64 * "a", b"content")
                os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(0.5)
                writer.create("artifacts/data/versions/v0.json", b"refers to it")
        except StoreError as error:
            (folder / "error").write_text(str(error))

    def collect() -> None:
        store = ArtifactStore(location)
        store.backend = ObjectBackend(location, LeaseTimes(renew_s=0.2, stale_s=STALE_S))
        Publisher(store, folder / "sources")({"a": "x"}, name="other")
        (folder / "deleted").write_text(str(len(collect_garbage(store, wait_s=20))))

    publisher = fork(publish)
    _, status = os.waitpid(publisher, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    time.sleep(duration_s)
    assert join(fork(collect))
    os.kill(publisher, signal.SIGCONT)
    assert join(publisher)
    return {"deleted": int((folder / "deleted").read_text())}


def create_at_once(location: str, folder: Path, num_processes: float) -> dict[str, int]:
    """How many of 20 names were created by one process, and by more than one."""

    def create(number: int) -> None:
        files = ObjectFiles(location)
        made = [name for name in map(str, range(20)) if files.create(f"race/{name}", str(number).encode())]
        (folder / f"made-{number}").write_text(" ".join(made))

    assert all(map(join, [fork(partial(create, number)) for number in range(int(num_processes))]))
    made = Counter(name for path in folder.glob("made-*") for name in path.read_text().split())
    return {"once": sum(count == 1 for count in made.values()), "twice": sum(count > 1 for count in made.values())}


def set_out_at_once(location: str, folder: Path, num_processes: float) -> dict[str, int]:  # noqa: ARG001
    """How many found the text in `data` where they were told that it lies."""

    def set_out() -> None:
        store = ArtifactStore(location)
        assert (store.materialize(store.resolve("data")) / "a").read_text() == "x"

    return {"read": sum(map(join, [fork(set_out) for _ in range(int(num_processes))]))}


def read_after_parent(location: str, folder: Path, num_processes: float) -> dict[str, int]:  # noqa: ARG001
    """How many forks of a process could read what it read before."""
    store = ArtifactStore(location)
    ref = store.resolve("data")
    return {"read": sum(map(join, [fork(lambda: store.verify(ref)) for _ in range(int(num_processes))]))}


def open_store(location: str) -> ArtifactStore:
    """The store; collectors and publishers look for each other more often than they otherwise would."""
    store = ArtifactStore(location)
    store.backend = ObjectBackend(location, LeaseTimes(poll_s=0.02))
    return store


def publish_as(store: ArtifactStore, folder: Path, name: str, number: int) -> ArtifactRef:
    """Publish a content that goes by the number: one process's garbage is what another publishes."""
    return Publisher(store, folder / "sources")({"a": str(number)}, name=name, metadata={"text": str(number)})


def of_now() -> int:
    """A number that is the next one every quarter of a second, in all processes."""
    return int(time.monotonic() * 4)


def seconds(duration_s: float, *, pause_s: float = 0.0) -> Iterator[int]:
    """0, 1, 2, … for so long, with pauses between them."""
    deadline = time.monotonic() + duration_s
    for number in itertools.count():
        if time.monotonic() >= deadline:
            return
        yield number
        time.sleep(pause_s)


def fork(work: Callable[[], object]) -> int:
    """Do it in a process of its own."""
    process = os.fork()
    if process == 0:
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            os._exit(1)
        os._exit(0)
    return process


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def join(process: int) -> bool:
    """Whether it ended well."""
    return os.waitpid(process, 0)[1] == 0


def in_fork(folder: Path, work: Callable[[], dict[str, int]]) -> dict[str, int]:
    """What it returned in a process of its own."""
    answer = folder / "answer"
    assert join(fork(lambda: answer.write_text(json.dumps(work()))))
    found: dict[str, int] = json.loads(answer.read_text())
    return found


PARTS = {
    "kill": kill_publishers,
    "collect": collect_meanwhile,
    "stop": stop_publisher,
    "create": create_at_once,
    "set-out": set_out_at_once,
    "read": read_after_parent,
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(PARTS[sys.argv[1]](sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]))))
