"""Who may write and who may delete in a store that has no locks. In memory, where a lease can be made older."""

import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from nemo_runspec.artifacts.object_backend import ObjectBackend
from nemo_runspec.artifacts.object_leases import LeaseTimes
from nemo_runspec.errors import StoreError

DEAD = "leases/node-17-0123456789abcdef0123456789abcdef.json"
DEAD_COLLECTOR = "leases/gc-node-18-0123456789abcdef0123456789abcdef.json"


@pytest.fixture
def backend() -> ObjectBackend:
    return ObjectBackend(f"memory://{uuid.uuid4()}", LeaseTimes(renew_s=0.1, stale_s=60, poll_s=0.01))


def make_older(backend: ObjectBackend, key: str, age_s: float) -> None:
    file = MemoryFileSystem.store[MemoryFileSystem._strip_protocol(backend.files.url(key))]
    file.created -= timedelta(seconds=age_s)


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_writer_leaves_nothing_behind(backend: ObjectBackend) -> None:
    with backend.writing() as writer:
        assert len(backend.writers()) == 1
        writer.create("format.json", b"{}")
    assert backend.list_names("") == ["format.json"]


def test_a_writer_that_fails_leaves_nothing_behind(backend: ObjectBackend) -> None:
    with pytest.raises(KeyboardInterrupt), backend.writing():
        raise KeyboardInterrupt
    assert backend.list_names("leases") == []


def test_many_write_at_once(backend: ObjectBackend) -> None:
    with backend.writing(), backend.writing():
        assert len(backend.list_names("leases")) == 2


def test_a_collector_gives_up_while_somebody_writes_and_says_who(backend: ObjectBackend) -> None:
    with (
        backend.writing(),
        pytest.raises(
            StoreError,
            match=r"^artifact store memory://\S+: still being written by process [0-9]+ on \S+ after waiting 0\.1 s; "
            r"nothing was deleted; wait for that to end, or wait longer with --wait-s: a killed process is forgotten "
            r"after 60 s$",
        ),
        backend.collecting(wait_s=0.1),
    ):
        pass
    assert backend.list_names("leases") == []


def test_a_collector_waits_for_a_writer(backend: ObjectBackend) -> None:
    with backend.writing():
        entered = threading.Event()
        collector = in_thread(lambda: collect(backend, entered))
        assert not entered.wait(0.2)
    assert entered.wait(10)
    collector.join()


def collect(backend: ObjectBackend, entered: threading.Event) -> None:
    with backend.collecting(wait_s=10):
        entered.set()


def test_a_writer_waits_for_a_collector_at_work(backend: ObjectBackend) -> None:
    with backend.collecting(wait_s=0):
        entered = threading.Event()
        writer = in_thread(lambda: write(backend, entered))
        assert not entered.wait(0.2)
    assert entered.wait(10)
    writer.join()


def write(backend: ObjectBackend, entered: threading.Event) -> None:
    with backend.writing():
        entered.set()


def test_of_two_collectors_one_is_at_work(backend: ObjectBackend) -> None:
    with (
        backend.collecting(wait_s=0),
        pytest.raises(StoreError, match=r"another garbage collection is still at work, by process [0-9]+ on "),
        ObjectBackend(backend.location).collecting(wait_s=0),
    ):
        pass


@pytest.mark.parametrize("key", [DEAD, DEAD_COLLECTOR])
def test_a_dead_process_keeps_nobody_out(key: str, backend: ObjectBackend) -> None:
    backend.files.put(key, b"{}")
    make_older(backend, key, 61)
    with backend.writing():
        pass
    with backend.collecting(wait_s=0):
        pass


def test_a_process_counts_as_alive_for_a_while(backend: ObjectBackend) -> None:
    backend.files.put(DEAD, b"{}")
    make_older(backend, DEAD, 50)
    with (
        pytest.raises(StoreError, match="still being written by process 17 on node"),
        backend.collecting(wait_s=0),
    ):
        pass


def test_what_a_dead_process_left_is_garbage(backend: ObjectBackend) -> None:
    backend.files.put(DEAD, b"{}")
    make_older(backend, DEAD, 61)
    with backend.collecting(wait_s=0):
        (left,) = backend.list_candidates()
    assert (left.kind, left.key, left.num_bytes) == ("leftover", DEAD, 2)


def test_a_living_process_is_no_garbage(backend: ObjectBackend) -> None:
    with backend.writing():
        assert list(backend.list_candidates()) == []


def test_a_lease_is_renewed(backend: ObjectBackend) -> None:
    with backend.writing():
        (name,) = backend.list_names("leases")
        make_older(backend, f"leases/{name}", 50)
        time.sleep(0.5)
        status = backend.status(f"leases/{name}")
    assert status is not None
    assert abs(status.mtime - time.time()) < 20


def test_a_writer_that_could_not_renew_its_lease_writes_nothing_more(backend: ObjectBackend) -> None:
    slow = ObjectBackend(backend.location, LeaseTimes(renew_s=60, stale_s=2))
    with slow.writing() as writer:
        time.sleep(1.1)
        with pytest.raises(StoreError, match="could not renew its lease for 1 s and is taken for dead after 2 s; "):
            writer.create("artifacts/data/versions/v0.json", b"{}")
    assert backend.status("artifacts/data/versions/v0.json") is None


def test_a_collector_that_could_not_renew_its_lease_deletes_nothing_more(backend: ObjectBackend) -> None:
    backend.files.put("objects/x", b"")
    slow = ObjectBackend(backend.location, LeaseTimes(renew_s=60, stale_s=2))
    with slow.collecting(wait_s=0):
        time.sleep(1.1)
        with pytest.raises(StoreError, match="it writes and deletes nothing more; run it again"):
            slow.delete("objects/x")
    assert backend.status("objects/x") is not None
