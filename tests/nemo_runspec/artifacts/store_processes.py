"""Several processes at one store: `python store_processes.py publish|kill|read STORE`.

They are forks of this one, so that they start within a moment of each other.
"""

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore

NUM_PROCESSES = 8
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


def publish(store: ArtifactStore, *, text: str) -> ArtifactRef:
    publisher = Publisher(store, store.root.parent / "sources")
    return publisher({"deep/a": text}, metadata={"text": text}, aliases=["best"])


def check_whole(store: ArtifactStore) -> None:
    versions = store.versions("data")
    assert [ref.version for ref in versions] == [f"v{number}" for number in range(len(versions))]
    for ref in versions:
        store.verify(ref)


def fork_all(work: Callable[[int], None]) -> None:
    """Run `work(0)`, `work(1)`, … in processes of their own, all at once; fails if one of them fails."""
    reader, writer = os.pipe()
    processes = []
    for number in range(NUM_PROCESSES):
        process = os.fork()
        if process == 0:
            os.close(writer)
            os.read(reader, 1)  # returns when the parent closes its end
            work(number)
            os._exit(0)
        processes.append(process)
    os.close(writer)
    failed = [process for process in processes if os.waitpid(process, 0)[1] != 0]
    assert not failed


def die_before(step: int) -> None:
    """From now on this process kills itself before its `step`-th file operation."""
    steps = itertools.count(1)

    def on_event(event: str, _: object) -> None:
        if (event == "open" or event.startswith("os.")) and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)


PARTS = {"publish": publish_at_once, "kill": kill_at_each_step, "read": read_at_once}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(PARTS[sys.argv[1]](Path(sys.argv[2]))))
