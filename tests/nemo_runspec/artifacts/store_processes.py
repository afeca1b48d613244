"""Several processes at one store: `python store_processes.py publish|kill|read|campaign STORE [SECONDS]`.

They are forks of this one, so that they start within a moment of each other.
"""

import ctypes
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.artifacts.gc import collect_garbage, find_garbage
from nemo_runspec.errors import ArtifactNotFound

NUM_PROCESSES = 8
NUM_KILLED = 12
PR_SET_PDEATHSIG = 1
NUM_EACH = 10


def publish_at_once(root: Path) -> dict[str, str]:
    """Version → text, as each process was told for what it published."""
    told = root.parent / "told"
    told.mkdir()

    def publish_some(process: int) -> None:
        publish = Publisher(ArtifactStore(root), root.parent / "sources")
        texts = [f"{process}-{number}" for number in range(NUM_EACH)]
        versions = {publish({"a": text}, metadata={"text": text}).version: text for text in texts}
        (told / str(process)).write_text(json.dumps(versions))

    fork_all(publish_some)
    return {version: text for path in told.iterdir() for version, text in json.loads(path.read_bytes()).items()}


def kill_at_each_step(root: Path) -> dict[str, str]:
    """Kill a publisher before its first file operation, another before its second, …, until one gets through."""
    for step in itertools.count(1):
        new = root.parent / f"new-{step}"
        publisher = os.fork()
        if publisher == 0:
            die_before(step)
            publish(ArtifactStore(new), text=f"step {step}")
            publish(ArtifactStore(root), text=f"step {step}")
            os._exit(0)
        _, status = os.waitpid(publisher, 0)
        check_whole(ArtifactStore(root))
        check_whole(ArtifactStore(new))
        if os.WIFEXITED(status):
            return {"kills": str(step - 1), "exit": str(os.WEXITSTATUS(status))}
    raise AssertionError("unreachable")


def read_at_once(root: Path) -> dict[str, str]:
    """Let all processes set out the same versions at the same time, and read what they were given."""
    refs = [publish(ArtifactStore(root), text=f"version {number}") for number in range(NUM_EACH * 4)]

    def read(_: int) -> None:
        store = ArtifactStore(root)
        for ref in refs:
            assert (store.materialize(ref) / "deep" / "a").read_text() == ref.metadata["text"]

    fork_all(read)
    return {}


def kill_at_random(root: Path, duration_s: float) -> dict[str, int]:
    """Let many publish for so long, kill one after another and start a new one for it, while another process reads.

    Fails unless all that was acknowledged is there, numbered without a gap and whole, before and after collecting what
    the killed left.
    """
    acknowledged, stop = root.parent / "acknowledged", root.parent / "stop"
    acknowledged.mkdir()
    reader = fork(partial(read_newest, root, stop))
    publishers = [fork(partial(publish_on, root, acknowledged / str(slot))) for slot in range(NUM_KILLED)]
    choice, deadline, num_kills = random.Random(0), time.monotonic() + duration_s, 0
    while time.monotonic() < deadline or (num_kills < 10 and time.monotonic() < deadline + 60):
        time.sleep(choice.uniform(0.001, 0.05))
        slot = choice.randrange(NUM_KILLED)
        kill(publishers[slot])
        num_kills += 1
        publishers[slot] = fork(partial(publish_on, root, acknowledged / str(slot)))
    wait_for(lambda: next(read_acknowledged(acknowledged), None))
    for publisher in publishers:
        kill(publisher)
    wait_for((root.parent / "has-read").exists)
    stop.touch()
    _, status = os.waitpid(reader, 0)
    assert status == 0
    store = ArtifactStore(root)
    check_whole(store)
    told = dict(read_acknowledged(acknowledged))
    kept = {ref.version: ref.metadata["text"] for ref in store.versions("data")}
    assert told.items() <= kept.items()
    collected = collect_garbage(store, wait_s=0)
    assert find_garbage(store) == []
    check_whole(store)
    return {
        "kills": num_kills,
        "versions": len(kept),
        "acknowledged": len(told),
        "reads": int((root.parent / "reads").read_text()),
        "collected": len(collected),
    }


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def publish_on(root: Path, acknowledged: Path) -> None:
    """Publish until killed; each version is written down, synced, once `publish` has returned it."""
    store = ArtifactStore(root)
    file = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in itertools.count():
        text = f"{os.getpid()}-{number}"
        ref = publish(store, text=text)
        os.write(file, f"\n{json.dumps([ref.version, text])}\n".encode())
        os.fsync(file)


def read_acknowledged(directory: Path) -> Iterator[tuple[str, str]]:
    """Version and text of each; the last line of a killed process may be torn."""
    for path in directory.iterdir():
        for line in path.read_text().splitlines():
            with suppress(ValueError):
                version, text = json.loads(line)
                yield version, text


def read_newest(root: Path, stop: Path) -> None:
    """Read the newest version again and again; none may be torn, and none older than the one before."""
    store = ArtifactStore(root)
    newest = -1
    for num_reads in itertools.count():
        if stop.exists():
            (root.parent / "reads").write_text(str(num_reads))
            return
        with suppress(ArtifactNotFound if newest < 0 else ()):
            ref = store.resolve("data:latest")
            assert store.record(ref).ref == ref
            assert [entry.path for entry in store.manifest(ref).entries] == ["deep/a"]
            store.verify(ref)
            assert int(ref.version[1:]) >= newest
            newest = int(ref.version[1:])
            (root.parent / "has-read").touch()


def publish(store: ArtifactStore, *, text: str) -> ArtifactRef:
    publisher = Publisher(store, store.path.parent / "sources")
    return publisher({"deep/a": text}, metadata={"text": text}, aliases=["best"])


def check_whole(store: ArtifactStore) -> None:
    versions = store.versions("data")
    assert [ref.version for ref in versions] == [f"v{number}" for number in range(len(versions))]
    for ref in versions:
        store.verify(ref)


def fork_all(work: Callable[[int], None]) -> None:
    """Run `work(0)`, `work(1)`, … in processes of their own, all at once; fails if one of them fails."""
    reader, writer = os.pipe()

    def start(number: int) -> None:
        os.close(writer)
        os.read(reader, 1)  # returns when the parent closes its end
        work(number)

    processes = [fork(partial(start, number)) for number in range(NUM_PROCESSES)]
    os.close(writer)
    failed = [process for process in processes if os.waitpid(process, 0)[1] != 0]
    assert not failed


def fork(work: Callable[[], None]) -> int:
    """The id of a process of its own that does the work; its exit code is 0 if it did. It does not outlive this one."""
    process = os.fork()
    if process == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return process


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status)  # it did not end by itself


def die_before(step: int) -> None:
    """From now on this process kills itself before its `step`-th file operation."""
    steps = itertools.count(1)

    def on_event(event: str, _: object) -> None:
        if (event == "open" or event.startswith("os.")) and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)


PARTS = {"publish": publish_at_once, "kill": kill_at_each_step, "read": read_at_once, "campaign": kill_at_random}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(PARTS[sys.argv[1]](Path(sys.argv[2]), *map(float, sys.argv[3:]))))
