"""A machine that lacks the package blake3: it publishes with SHA-256, and reads all but what takes BLAKE3 to check."""

import subprocess
import sys
from pathlib import Path

import pytest
from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.artifacts.refs import Policy

PUBLISH = """
from nemo_runspec.artifacts import ArtifactStore, Producer
producer = Producer(run_id="run-1", stage="prepare", fingerprint="f0")
ArtifactStore(sys.argv[1]).publish(
    Path(sys.argv[2]), name="data", type="T", metadata={}, producer=producer, policy=sys.argv[3], digest=sys.argv[4]
)
"""
READ = """
from nemo_runspec.artifacts import ArtifactStore
store = ArtifactStore(sys.argv[1])
ref = store.resolve("data:v0")
print(store.verify(ref, "stat").num_by_size, (store.materialize(ref) / "a").read_text())
"""
COMMAND = """
from nemotron.cli.app import main
sys.exit(main())
"""


def run_without_blake3(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    head = "import sys\nfrom pathlib import Path\nsys.modules['blake3'] = None\n"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", head + code, *map(str, arguments)], capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("policy", "digest", "manner"),
    [("copy", "auto", "sha256"), ("reference", "full", "sha256"), ("reference", "sampled", "sampled-sha256")],
)
def test_it_publishes_what_others_check(
    policy: Policy, digest: str, manner: str, publish: Publisher, store: ArtifactStore
) -> None:
    done = run_without_blake3(PUBLISH, store.location, publish.write({"a": "hello"}), policy, digest)
    assert done.stderr == ""
    (entry,) = store.manifest(store.resolve("data")).entries
    assert entry.digest.startswith(f"{manner}:")
    assert store.verify(store.resolve("data"), "full").num_files == 1


def test_it_publishes_to_a_store_with_blake3_digests(publish: Publisher, store: ArtifactStore) -> None:
    first = publish({"a": "hello"})
    done = run_without_blake3(PUBLISH, store.location, publish.write({"a": "hello"}), "copy", "auto")
    assert done.stderr == ""
    digests = [store.manifest(ref).entries[0].digest.partition(":")[0] for ref in (first, store.resolve("data:v1"))]
    assert digests == ["blake3", "sha256"]


def test_it_reads_what_has_blake3_digests(publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "hello"})
    done = run_without_blake3(READ, store.location)
    assert (done.stdout, done.stderr) == ("1 hello\n", "")


def test_it_says_what_it_cannot_check_and_checks_the_rest(publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "hello"})
    run_without_blake3(PUBLISH, store.location, publish.write({"a": "hello"}), "copy", "auto")
    done = run_without_blake3(COMMAND, "artifacts", "verify", "--store", store.location)
    first, second, total = done.stdout.splitlines()
    assert first == (
        "data:v0  NOT CHECKED  a digest blake3:… cannot be computed: the package blake3 is not installed; "
        "pip install 'blake3>=1.0,<2'"
    )
    assert second == "data:v1  ok   1 file, 5 bytes, compared in full"
    assert total.endswith("compared in full: 1 not checked")
    assert (done.returncode, done.stderr) == (1, "")
