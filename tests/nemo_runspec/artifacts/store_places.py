"""The places that a store can be at, for tests that hold at each: what goes wrong there, and many at once.

`python store_places.py LOCATION FOLDER` publishes from several processes and leaves in FOLDER what each was told.
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.artifacts.object_backend import ObjectBackend

NUM_AT_ONCE = 4
NUM_EACH = 4


def put_file(store: ArtifactStore, key: str, content: bytes) -> None:
    """Have another content there, as a bad disk would."""
    if isinstance(store.backend, ObjectBackend):
        store.backend.files.put(key, content)
        return
    path = Path(store.location, key)
    path.chmod(0o644)
    path.write_bytes(content)


def remove_file(store: ArtifactStore, key: str) -> None:
    """Have it gone, as somebody would by hand."""
    store.backend.delete(key)


def publish_some(location: str, folder: Path, number: int) -> None:
    """Publish and leave in the folder which version has which text."""
    publish = Publisher(ArtifactStore(location), folder / "sources")
    texts = [f"{number}-{count}" for count in range(NUM_EACH)]
    told = {publish({"a": text}, metadata={"text": text}).version: text for text in texts}
    (folder / f"told-{number}").write_text(json.dumps(told))


def in_threads(work: Callable[[int], None]) -> None:
    """Run `work(0)`, `work(1)`, … in threads of their own."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(NUM_AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_processes(work: Callable[[int], None]) -> None:
    """Run `work(0)`, `work(1)`, … in forks of this process; fails if one of them fails."""
    processes = []
    for number in range(NUM_AT_ONCE):
        process = os.fork()
        if process == 0:
            work(number)
            os._exit(0)
        processes.append(process)
    failed = [process for process in processes if os.waitpid(process, 0)[1] != 0]
    assert not failed


if __name__ == "__main__":
    in_processes(lambda number: publish_some(sys.argv[1], Path(sys.argv[2]), number))
