"""The garbage collector among other processes: `python gc_processes.py publish|kill-publisher|kill-collector STORE`."""

import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from store_processes import check_whole, die_before, fork_all, publish
from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.artifacts.gc import collect_garbage, find_garbage
from nemo_runspec.artifacts.gc_lock import hold_shared

DURATION_S = 5.0
NUM_GIVEN_UP = 3


def publish_meanwhile(root: Path) -> dict[str, int]:
    """Collect again and again while some publish, and some publish the same and give it up."""
    counts = root.parent / "counts"
    counts.mkdir()

    def work(process: int) -> None:
        if process == 0:
            runs = [len(collect_garbage(ArtifactStore(root), wait_s=60)) for _ in seconds(DURATION_S)]
            (counts / "runs").write_text(json.dumps({"runs": len(runs), "deleted": sum(runs)}))
        elif process == 1:
            for number in seconds(DURATION_S):
                contents = (of_now(), of_now() + 1, -number)  # another's, soon another's, nobody's
                give_up(ArtifactStore(root), publish_as(ArtifactStore(root), "gone", contents[number % 3]))
        elif process == 2:
            for _ in seconds(DURATION_S):
                ArtifactStore(root).materialize(publish_as(ArtifactStore(root), "data", of_now()))

    fork_all(work)
    store = ArtifactStore(root)
    check_whole(store)
    for ref in store.versions("data"):
        assert (store.materialize(ref) / "a").read_text() == ref.metadata["text"]
    answer: dict[str, int] = json.loads((counts / "runs").read_text())
    return answer | {"published": len(store.versions("data"))}


def kill_publisher(root: Path) -> dict[str, int]:
    """Kill a publisher before its first file operation, another before its second, …, and collect what each leaves."""
    collected = 0
    for step in itertools.count(1):
        text = f"step {step}"
        publisher = os.fork()
        if publisher == 0:
            store = ArtifactStore(root)
            publish(store, text="the first creates the store")
            die_before(step)
            store.materialize(publish(store, text=text))
            store.add_note("mirrors/data", {"text": text})
            os._exit(0)
        _, status = os.waitpid(publisher, 0)
        store = ArtifactStore(root)
        collected += len(collect_garbage(store, wait_s=0))
        assert find_garbage(store) == []
        assert list((root / "tmp").iterdir()) == []
        check_whole(store)
        assert list(store.newest_note("mirrors/data") or ["text"]) == ["text"]
        if os.WIFEXITED(status):
            return {"kills": step - 1, "exit": os.WEXITSTATUS(status), "collected": collected}
    raise AssertionError("unreachable")


def kill_collector(root: Path) -> dict[str, int]:
    """Kill a collector before its first file operation, another before its second, …; what stays is collected later."""
    store = ArtifactStore(root)
    kept = publish_as(store, "data", 0)
    for step in itertools.count(1):
        for number in range(NUM_GIVEN_UP):
            ref = publish_as(store, "gone", number)
            store.materialize(ref)
            give_up(store, ref)
        collector = os.fork()
        if collector == 0:
            die_before(step)
            collect_garbage(ArtifactStore(root), wait_s=0)
            os._exit(0)
        _, status = os.waitpid(collector, 0)
        check_whole(store)
        assert (store.materialize(kept) / "a").read_text() == "0"
        again = publish_as(store, "again", 1)
        assert (store.materialize(again) / "a").read_text() == "1"
        give_up(store, again)
        if os.WIFEXITED(status):
            collect_garbage(store, wait_s=0)
            assert find_garbage(store) == []
            return {"kills": step - 1, "exit": os.WEXITSTATUS(status)}
    raise AssertionError("unreachable")


def publish_as(store: ArtifactStore, name: str, number: int) -> ArtifactRef:
    """Publish a content that goes by the number: one process's garbage is what another publishes."""
    text = str(number)
    publisher = Publisher(store, store.path.parent / "sources")
    return publisher({"a": text}, name=name, metadata={"text": text})


def of_now() -> int:
    """A number that is the next one every tenth of a second, in all processes."""
    return int(time.monotonic() * 10)


def give_up(store: ArtifactStore, ref: ArtifactRef) -> None:
    """Remove all versions of the name, as somebody would by hand."""
    with hold_shared(store.path):  # not while a collector looks at them
        shutil.rmtree(store.path / "artifacts" / ref.name)


def seconds(duration_s: float) -> Iterator[int]:
    """0, 1, 2, … for so long."""
    deadline = time.monotonic() + duration_s
    return itertools.takewhile(lambda _: time.monotonic() < deadline, itertools.count())


PARTS = {"publish": publish_meanwhile, "kill-publisher": kill_publisher, "kill-collector": kill_collector}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(PARTS[sys.argv[1]](Path(sys.argv[2]))))
