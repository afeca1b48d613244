"""A store on S3, over HTTP: what a bucket, a network and other processes do to it."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from s3_server import Fault, S3Server
from store_places import in_threads
from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactStore, object_backend, object_files
from nemo_runspec.artifacts.digests import digest_file
from nemo_runspec.artifacts.object_backend import ObjectBackend
from nemo_runspec.artifacts.object_files import ObjectFiles
from nemo_runspec.errors import ArtifactCorrupted, ArtifactError, StoreError

PROCESSES = Path(__file__).with_name("object_processes.py")


@pytest.fixture
def store(s3_bucket: str) -> ArtifactStore:
    return ArtifactStore(f"{s3_bucket}/team")


@pytest.fixture
def files(store: ArtifactStore) -> ObjectFiles:
    assert isinstance(store.backend, ObjectBackend)
    return store.backend.files


def run_processes(part: str, location: str, folder: Path, number: float) -> dict[str, Any]:
    command = [sys.executable, str(PROCESSES), part, location, str(folder), str(number)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_publishers_killed_at_random_lose_no_version_and_readers_see_no_half_one(
    kills: int, s3_bucket: str, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    counts = run_processes("kill", s3_bucket, tmp_path, kills)
    tell(f"S3, {kills} publishers killed at random: {counts}")
    assert min(counts["told"], counts["reads"]) > 0


@pytest.mark.parametrize("duration_s", [5.0, pytest.param(120.0, marks=pytest.mark.slow)])
def test_all_versions_published_while_garbage_is_collected_are_whole(
    duration_s: float, s3_bucket: str, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    counts = run_processes("collect", s3_bucket, tmp_path, duration_s)
    tell(f"S3, collected meanwhile: {counts}")
    assert min(counts["runs"], counts["deleted"], counts["published"]) > 0


def test_a_publisher_that_was_stopped_while_its_contents_were_collected_publishes_nothing(
    store: ArtifactStore, tmp_path: Path
) -> None:
    answer = run_processes("stop", store.location, tmp_path, 11.0)
    assert answer["deleted"] > 0
    assert "taken for dead after 10 s" in (tmp_path / "error").read_text()
    assert store.version_names("data") == []


def test_of_many_who_create_a_file_one_does(s3_bucket: str, tmp_path: Path) -> None:
    assert run_processes("create", s3_bucket, tmp_path, 4) == {"once": 20, "twice": 0}


def test_in_memory_one_thread_creates_a_file() -> None:
    files, made = ObjectFiles(f"memory://{uuid.uuid4()}"), list[str]()
    in_threads(lambda number: made.extend(k for k in map(str, range(200)) if files.create(k, str(number).encode())))
    assert sorted(made, key=int) == [str(number) for number in range(200)]


def test_a_created_file_whose_answer_was_lost_is_its_creators(files: ObjectFiles, s3_server: S3Server) -> None:
    s3_server.set_faults(Fault(method="PUT", path="/claim", kind="no answer"))
    assert files.create("claim", b"mine")
    assert not files.create("claim", b"mine")


def test_a_publication_whose_answer_was_lost_is_one_version(
    publish: Publisher, store: ArtifactStore, s3_server: S3Server
) -> None:
    s3_server.set_faults(Fault(method="PUT", path="/versions/", kind="no answer"))
    assert publish({"a": "x"}).version == "v0"
    assert store.version_names("data") == ["v0"]


def test_who_creates_a_file_at_the_same_moment_as_another_tries_again(publish: Publisher, s3_server: S3Server) -> None:
    s3_server.set_faults(Fault(method="PUT", path="/versions/", kind="409", times=2))
    assert publish({"a": "x"}).version == "v0"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_a_server_that_is_busy_for_a_moment_is_asked_again(
    method: str, publish: Publisher, store: ArtifactStore, s3_server: S3Server
) -> None:
    s3_server.set_faults(Fault(method=method, path="", kind="503"))
    store.verify(publish({"a": "x"}))
    assert store.version_names("data") == ["v0"]


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_rights_that_are_lacking_are_told(method: str, publish: Publisher, s3_server: S3Server) -> None:
    s3_server.set_faults(Fault(method=method, path="", kind="403", times=1000))
    with pytest.raises(
        StoreError,
        match=r"^artifact store s3://test-\w+/team: (reading|writing) \S+ was denied \(as the test wants\); "
        "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that they may list, read, write and delete there, "
        "or set NEMOTRON_STORE to another store$",
    ):
        publish({"a": "x"})


def test_a_bucket_that_is_not_there_is_named(s3_bucket: str) -> None:
    location = f"{s3_bucket}-2/x"
    with pytest.raises(StoreError, match=f"^artifact store {location}: there is no bucket 'test-.*-2'; create it, or "):
        ArtifactStore(location)


def test_credentials_that_are_lacking_are_told(s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(
        StoreError, match=r"no credentials .*; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_"
    ):
        ArtifactStore(s3_bucket)


def test_an_endpoint_that_is_not_there_is_named(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(
        StoreError, match=r"no answer while reading format\.json .*; check AWS_ENDPOINT_URL = http://127"
    ):
        ArtifactStore(s3_bucket)


def test_a_server_that_never_answers_is_given_up(
    s3_bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_files, "READ_TIMEOUT_S", 0.2)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # another environment: clients with other time-outs are not used again
    s3_server.set_faults(Fault(method="GET", path="", kind="late", delay_s=0.4, times=10))
    with pytest.raises(StoreError, match=r"no answer while reading format\.json"):
        ArtifactStore(s3_bucket)


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("s3://", "names no place; give one like s3://bucket/prefix"),
        ("nosuch://a/b", "Protocol not known: nosuch"),
        ("local://{folder}/store", "local:// shows half-written files; give the directory's path"),
        ("gs://bucket/x", "Please install gcsfs to access Google Storage; install what it needs"),
    ],
)
def test_a_url_that_can_be_no_store_is_refused(location: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=said):
        ArtifactStore(location.format(folder=tmp_path))


class CarelessFileSystem(MemoryFileSystem):
    """Creates a file again that is there, as many servers do that call themselves S3."""

    protocol = "careless"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:  # noqa: ARG002
        super().pipe_file(path, value)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("careless://")))


def test_a_place_that_creates_a_file_again_is_refused(tmp_path: Path) -> None:
    fsspec.register_implementation("careless", CarelessFileSystem, clobber=True)
    publish = Publisher(ArtifactStore(f"careless://{uuid.uuid4()}"), tmp_path)
    with pytest.raises(StoreError, match="careless:// creates a file again that is there, so that one publisher would"):
        publish({"a": "x"})
    assert publish.store.backend.list_names("") == []


def test_a_large_file_is_sent_and_fetched_in_parts(store: ArtifactStore, tmp_path: Path) -> None:
    content = os.urandom(object_files.RANGE_BYTES + 1)
    (tmp_path / "large").write_bytes(content)
    with store.backend.writing() as writer:
        digest, size = writer.take_in(tmp_path / "large", "sha256")
    assert size == len(content)
    assert (store.backend.materialize("m", [("large", digest)]) / "large").read_bytes() == content


def test_a_large_content_that_is_there_is_not_sent_again(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_server: S3Server
) -> None:
    monkeypatch.setattr(object_backend, "_SMALL_BYTES", 3)
    (tmp_path / "large").write_bytes(b"content")
    with store.backend.writing() as writer:
        first = writer.take_in(tmp_path / "large", "sha256")
        s3_server.set_faults(Fault(method="PUT", path="/objects/", kind="403", times=1000))
        assert writer.take_in(tmp_path / "large", "sha256") == first


@pytest.mark.parametrize("damaged", [b"cont", b"c0ntent"], ids=["cut", "another"])
def test_a_large_content_that_is_damaged_there_is_sent_again(
    damaged: bytes, store: ArtifactStore, files: ObjectFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_backend, "_SMALL_BYTES", 3)
    (tmp_path / "large").write_bytes(b"content")
    with store.backend.writing() as writer:
        digest, _ = writer.take_in(tmp_path / "large", "sha256")
        key = object_backend.object_key(digest)
        files.put(key, damaged)
        writer.take_in(tmp_path / "large", "sha256")
    assert files.read(key) == b"content"


def test_a_large_file_that_changes_while_it_is_sent_is_refused(
    store: ArtifactStore, files: ObjectFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_backend, "_SMALL_BYTES", 3)
    path = tmp_path / "large"
    path.write_bytes(b"content")
    send = files.upload
    monkeypatch.setattr(files, "upload", lambda source, key: (path.write_bytes(b"changed!"), send(source, key)))
    with store.backend.writing() as writer, pytest.raises(ArtifactError, match="it changed while it was read; publish"):
        writer.take_in(path, "sha256")
    assert files.find("objects") == files.find("tmp") == []


def test_a_large_file_that_changes_while_it_is_sent_leaves_what_others_have_sent(
    store: ArtifactStore, files: ObjectFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_backend, "_SMALL_BYTES", 3)
    path = tmp_path / "large"
    path.write_bytes(b"content")
    key = object_backend.object_key(digest_file(path, "sha256"))
    files.put(key, b"content")
    send = files.upload
    monkeypatch.setattr(files, "upload", lambda source, key: (path.write_bytes(b"changed"), send(source, key)))
    with store.backend.writing() as writer, pytest.raises(ArtifactError, match="it changed while it was read; publish"):
        writer.take_in(path, "sha256")
    assert files.read(key) == b"content"


def test_looking_for_what_was_not_made_yet_reads_no_version(
    publish: Publisher, store: ArtifactStore, s3_server: S3Server
) -> None:
    refs = [publish({"a": "x"}, fingerprint=fingerprint) for fingerprint in ("f1", "f2", "f3")]
    s3_server.set_faults(Fault(method="GET", path=r"/versions/v[02]\.json", kind="403", times=1000))
    assert store.find("data", "f9") is None
    assert store.find("data", "f2") == refs[1]


def test_a_version_stands_if_its_fingerprint_cannot_be_noted(
    publish: Publisher, store: ArtifactStore, s3_server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    s3_server.set_faults(Fault(method="PUT", path="/made/", kind="403"))
    ref = publish({"a": "x"})
    assert store.find("data", "f0") == ref
    assert "writing made/data.json was denied" in caplog.text


def test_a_machine_without_fsspec_is_told_what_to_install() -> None:
    script = (
        "import sys; sys.modules['fsspec'] = None; from nemo_runspec.artifacts import ArtifactStore as S; S('s3://b')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "install what it needs, for s3:// pip install 'nemotron-flows[s3]'" in done.stderr.splitlines()[-1]


def test_a_process_reads_after_its_parent_did(publish: Publisher, store: ArtifactStore, tmp_path: Path) -> None:
    publish({"a": "x"})
    assert run_processes("read", store.location, tmp_path, 2) == {"read": 2}


class TestLocalCopies:
    def test_they_lie_in_the_users_cache(
        self, publish: Publisher, store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("NEMOTRON_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        path = store.materialize(publish({"a": "x"}))
        assert path.relative_to(tmp_path / "xdg" / "nemotron" / "materialized")
        assert path == store.checkout_path(path.name)

    def test_they_outlive_the_server(self, publish: Publisher, store: ArtifactStore, s3_server: S3Server) -> None:
        ref = publish({"a": "x"})
        store.materialize(ref)
        s3_server.set_faults(Fault(method="GET", path="/objects/", kind="403", times=1000))
        assert (store.materialize(ref) / "a").read_text() == "x"

    def test_a_copy_that_differs_from_its_digest_is_not_given_out(
        self, publish: Publisher, store: ArtifactStore, files: ObjectFiles
    ) -> None:
        ref = publish({"a": "hello", "b": "other"})
        key = object_backend.object_key(store.manifest(ref).entries[0].digest)
        files.put(key, b"hellO")
        with pytest.raises(ArtifactCorrupted, match=f"^{files.url(key)}: expected blake3:.*; remove it and rerun the "):
            store.materialize(ref)
        path = store.checkout_path(store.record(ref).manifest)
        assert [it.name for it in path.parent.iterdir()] == [f"{path.name}.lock"]

    def test_what_a_killed_process_left_half_done_is_removed(self, publish: Publisher, store: ArtifactStore) -> None:
        ref = publish({"a": "x"})
        path = store.checkout_path(store.record(ref).manifest)
        (path.with_name(f".{path.name}-killed") / "files").mkdir(parents=True)
        store.materialize(ref)
        assert sorted(it.name for it in path.parent.iterdir()) == [path.name, f"{path.name}.lock"]

    def test_many_processes_make_one_copy(
        self, publish: Publisher, store: ArtifactStore, s3_server: S3Server, tmp_path: Path
    ) -> None:
        publish({"a": "x"})
        s3_server.set_faults(
            Fault(method="GET", path="/objects/", kind="late", times=1, delay_s=0.3),
            Fault(method="GET", path="/objects/", kind="403", times=1000),
        )
        assert run_processes("set-out", store.location, tmp_path, 3) == {"read": 3}

    def test_a_cache_that_cannot_be_written_is_named(
        self, publish: Publisher, store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("NEMOTRON_CACHE", str(tmp_path / "file"))
        with pytest.raises(
            StoreError, match=r"^cache .*/file/materialized/\w+: copying from s3://.* failed: .*NEMOTRON_CACHE"
        ):
            store.materialize(publish({"a": "x"}))
