"""What all tests share: one real Slurm cluster a session, started by the first test that asks for it."""

import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster.cluster import Cluster, require_programs
from s3_server import S3Server, running_s3_server


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[Cluster]:
    """Four nodes on this machine, with accounting: slurmctld, slurmd, slurmdbd and MariaDB, without systemd."""
    require_programs()
    cgroup = "1" if Path("/sys/fs/cgroup/memory").is_dir() else "0"  # then memory limits hold
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # munge wants parents that all may enter, unlike pytest's own
    with Cluster.running(folder, SLURM_CGROUP=cgroup) as cluster:
        yield cluster


def pytest_configure() -> None:
    """Ctrl-C ends what tests start also where a shell has put this into the background, which makes it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests that wait for Slurm come first: what runs beside them then has the processor."""
    items.sort(key=lambda item: "slurm_cluster" not in getattr(item, "fixturenames", ()))


@pytest.fixture
def slurm(slurm_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The session's cluster, all nodes up, its programs found by this process too; the test's jobs go with it."""
    for name, value in slurm_cluster.env.items():
        monkeypatch.setenv(name, value)
    slurm_cluster.up()
    yield slurm_cluster
    slurm_cluster.cancel_all()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server over HTTP, started by the first test that asks for it."""
    with running_s3_server() as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket, found by child processes too."""
    s3_server.use(monkeypatch.setenv)
    monkeypatch.setenv("NEMOTRON_CACHE", str(tmp_path / "cache"))
    name = f"test-{uuid.uuid4().hex}"
    s3_server.create_bucket(name)
    yield f"s3://{name}"
    s3_server.set_faults()


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Print a line after all tests: what a campaign counted."""
    return lambda line: record_property("counts", line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was told, also by tests that ran in other processes."""
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        for name, line in report.user_properties:
            if name == "counts" and report.when == "call":
                terminalreporter.write_line(str(line))
