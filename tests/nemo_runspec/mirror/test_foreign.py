"""Artifacts that others put on W&B: taken into the store once, from then on like any other."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from mirrored_store import MirroredStore, new_project
from pydantic import SecretStr
from s3_server import S3Server
from wandb_server.server import WandbServerProcess

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, Producer, parse_ref
from nemo_runspec.artifacts.backend import object_key
from nemo_runspec.errors import ArtifactCorrupted, ArtifactError, ArtifactNotFound
from nemo_runspec.mirror.helper import Helper
from nemo_runspec.mirror.intake import ForeignSource, NotTakenYet, foreign_name, resolve_reference, take_in
from nemo_runspec.mirror.outbox import read_outbox
from nemo_runspec.mirror.pins import add_pin, find_pin
from nemo_runspec.mirror.server import WandbServer

CLIENT = Path(__file__).with_name("foreign_client.py")


@dataclass(frozen=True, kw_only=True)
class Others:
    """A project on the server in which others logged artifacts, and the folder that these refer to."""

    server: WandbServerProcess
    project: str
    folder: Path

    @property
    def source(self) -> ForeignSource:
        key = SecretStr(self.server.key)
        return ForeignSource(server=WandbServer(base_url=self.server.url, api_key=key), entity=self.server.entity)

    @property
    def unreachable(self) -> ForeignSource:
        """The same, but nothing can be asked."""
        return replace(self.source, server=WandbServer(base_url=self.server.url))

    def name(self, name: str) -> str:
        return f"{self.server.entity}/{self.project}/{name}"

    def local(self, name: str) -> str:
        """What it is called in the store."""
        return foreign_name(f"{self.name(name)}:v0", self.source.server)


@pytest.fixture(scope="session")
def others(wandb_process: WandbServerProcess, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Others:
    folder = tmp_path_factory.mktemp("others")
    (folder / "ckpt" / "deep dir").mkdir(parents=True)
    (folder / "ckpt" / "w.bin").write_text("weights")
    (folder / "ckpt" / "deep dir" / "100%.bin").write_text("more")
    env = dict(os.environ)
    s3_server.use(env.__setitem__)
    s3_server.create_bucket("others")
    project = new_project()
    directories = ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR")
    env |= {**wandb_process.env, **dict.fromkeys(directories, str(folder)), "WANDB_SILENT": "true"}
    place = f"{wandb_process.entity}/{project}"
    upload = "import fsspec; f = fsspec.filesystem('s3'); f.pipe_file('others/data.bin', b'object')"
    subprocess.run([sys.executable, "-c", upload], env=env, check=True, timeout=60)
    command = [sys.executable, str(CLIENT), place, str(folder), "s3://others"]
    subprocess.run(command, env=env, check=True, timeout=200)
    return Others(server=wandb_process, project=project, folder=folder)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


@pytest.fixture(scope="session")
def helper(others: Others) -> Iterator[Helper]:
    """One for all tests: `wandb` takes seconds to start."""
    with Helper(others.source.server) as opened:
        yield opened


@pytest.fixture
def take(others: Others, store: ArtifactStore, helper: Helper) -> Callable[..., ArtifactRef]:
    """Takes one of the others' artifacts in; from another source with a helper of its own."""

    def take(name: str, source: ForeignSource | None = None) -> ArtifactRef:
        shared = helper if source is None else None
        return take_in(store, parse_ref(others.name(name)), source or others.source, helper=shared)

    return take


Take = Callable[..., ArtifactRef]


def contents(store: ArtifactStore, ref: ArtifactRef) -> dict[str, str]:
    root = store.materialize(ref)
    return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_uploaded_files_are_fetched_with_all_that_is_known_of_them(
    take: Take, others: Others, store: ArtifactStore
) -> None:
    ref = take("corpus:best")
    assert contents(store, ref) == {"a.txt": "one a.txt", "sub/b c.txt": "one sub/b c.txt"}
    assert (ref.name, ref.version, ref.type) == (others.local("corpus"), "v0", "dataset")
    assert ref.metadata == {"rows": 3, "inner": {"pack_size": 8}}
    record = store.record(ref)
    assert (record.producer.run_id, record.inputs, record.wandb) == (others.name("maker"), [], None)
    store.verify(ref)


def test_it_is_known_where_it_is_from_and_never_sent_there(take: Take, others: Others, store: ArtifactStore) -> None:
    ref = take("corpus:v0")
    pin = find_pin(store, ref, others.source.server)
    assert pin is not None
    assert (pin.qualified_name, pin.origin) == (others.name("corpus:v0"), "foreign")
    assert pin.run_path == others.name("maker")
    assert (
        pin.digest == others.server.project_state(others.project)["collections"]["corpus"]["versions"]["v0"]["digest"]
    )
    assert read_outbox(store, others.source.server, only=[ref]).waiting == []


def test_a_version_that_is_there_needs_no_server_and_an_alias_means_what_it_means_there(
    take: Take, others: Others, store: ArtifactStore
) -> None:
    newest = take("corpus:latest")
    assert newest.version == "v2"
    assert take("corpus:v2", others.unreachable) == newest
    assert take("corpus:latest") == newest
    assert store.version_names(newest.name) == ["v2"]


def test_without_an_entity_it_is_the_keys_own(others: Others, store: ArtifactStore, helper: Helper) -> None:
    source = replace(others.source, entity=None)
    ref = take_in(store, parse_ref(f"{others.project}/corpus:v1"), source, helper=helper)
    assert str(ref) == f"{others.local('corpus')}:v1"
    assert take_in(store, parse_ref(f"{others.project}/corpus:v1"), others.unreachable) == ref


def test_a_link_is_what_it_leads_to(others: Others, store: ArtifactStore, helper: Helper) -> None:
    ref = take_in(store, parse_ref(f"{others.server.entity}/links/shelf:latest"), others.source, helper=helper)
    assert str(ref) == f"{others.local('corpus')}:v2"


def test_files_that_lie_here_are_taken_as_they_lie(take: Take, others: Others, store: ArtifactStore) -> None:
    (others.folder / "ckpt" / "later.bin").write_text("not of it")
    ref = take("ckpt:v0")
    (others.folder / "ckpt" / "later.bin").unlink()
    assert (store.record(ref).policy, store.materialize(ref)) == ("reference", others.folder / "ckpt")
    assert [entry.path for entry in store.manifest(ref).entries] == ["deep dir/100%.bin", "w.bin"]
    assert ref.metadata == {"iteration": 100}


@pytest.mark.parametrize(("name", "num_files"), [("unchecked", 1), ("directory", 2)])
def test_so_are_those_whose_content_wandb_does_not_know(
    name: str, num_files: int, take: Take, others: Others, store: ArtifactStore
) -> None:
    ref = take(f"{name}:v0")
    assert store.materialize(ref) == others.folder / "ckpt"
    assert len(store.manifest(ref).entries) == num_files


def test_a_file_that_is_not_of_its_size_any_more_is_told(take: Take, others: Others, store: ArtifactStore) -> None:
    path = others.folder / "ckpt" / "w.bin"
    path.write_text("weights and more")
    try:
        with pytest.raises(ArtifactCorrupted, match=rf"w\.bin: W&B says 7 bytes, {path} has 16; name another version"):
            take("ckpt:v0")
    finally:
        path.write_text("weights")
    assert store.names() == []


def test_files_that_lie_here_and_uploaded_ones_are_copied_together(take: Take, store: ArtifactStore) -> None:
    ref = take("mixed:v0")
    assert contents(store, ref) == {"w.bin": "weights", "notes.txt": "uploaded"}
    assert store.record(ref).policy == "copy"


def test_files_of_other_artifacts_are_fetched(take: Take, store: ArtifactStore) -> None:
    assert contents(store, take("borrowed:v0")) == {"of-corpus.txt": "one a.txt"}


def test_files_that_are_called_as_those_of_a_store_are_files(take: Take, store: ArtifactStore) -> None:
    assert contents(store, take("posing:v0")) == {"nemotron/manifest.json": "{}"}


def test_a_file_of_another_machine_is_told(take: Take, others: Others) -> None:
    with pytest.raises(
        ArtifactNotFound, match=f"w.bin is at file://{others.folder}/no/such/w.bin, which is not on this"
    ):
        take("gone:v0")


def test_objects_are_fetched(
    take: Take, others: Others, store: ArtifactStore, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.use(monkeypatch.setenv)
    assert contents(store, take("object:v0", others.source)) == {"in/data.bin": "object"}
    with pytest.raises(ArtifactError, match=r"s3://others/data\.bin has changed: expected ETag other, got"):
        take("changed:v0", others.source)


def test_a_name_that_leads_out_of_the_artifact_is_refused(take: Take, store: ArtifactStore) -> None:
    with pytest.raises(ArtifactError, match=r"'\.\./evil': the name of this file leads out of the artifact"):
        take("outside:v0")
    assert store.names() == []


def test_a_damaged_upload_is_found(take: Take, store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory) -> None:
    name = hashlib.md5(b"two a.txt").hexdigest()
    (blob,) = tmp_path_factory.getbasetemp().glob(f"wandb-server[0-9]/blob/{name}")
    sound = blob.read_bytes()
    blob.write_bytes(b"twO a.txt")
    try:
        with pytest.raises(ArtifactError, match=r"a\.txt: expected the digest .*, got .*; fetch it again"):
            take("corpus:v1")
    finally:
        blob.write_bytes(sound)
    assert store.names() == []


def test_a_server_that_falters_is_asked_again(
    take: Take, wandb_double: WandbServerProcess, store: ArtifactStore
) -> None:
    wandb_double.fault(path="/storage/blob", method="GET", status=503, times=2)
    assert contents(store, take("corpus:v1"))["a.txt"] == "two a.txt"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("double/no-such-project/corpus:v0", "does not give double/no-such-project/corpus:v0: .*project.*not found"),
        (
            "double/{project}/no-such:v0",
            "does not give double/.*/no-such:v0: .*not found.*; correct the name, or ask for",
        ),
        ("double/{project}/corpus:v9", "does not give double/.*/corpus:v9: .*not found"),
    ],
)
def test_what_is_not_there_or_may_not_be_read_is_told(
    reference: str, said: str, others: Others, store: ArtifactStore, helper: Helper
) -> None:
    with pytest.raises(ArtifactError, match=said) as caught:
        take_in(store, parse_ref(reference.format(project=others.project)), others.source, helper=helper)
    assert len(str(caught.value).splitlines()) == 1
    assert not store.exists()


@pytest.mark.parametrize(
    ("url", "key", "said"),
    [
        ("", "6" * 40, "API key"),
        ("http://127.0.0.1:9", "5" * 40, "http://127.0.0.1:9 .*cannot be reached|does not answer"),
        ("", None, "no API key for W&B server"),
    ],
    ids=["wrong key", "server down", "no key"],
)
def test_a_server_that_cannot_be_asked_is_told_in_a_line(
    url: str, key: str | None, said: str, others: Others, store: ArtifactStore
) -> None:
    server = WandbServer(base_url=url or others.server.url, api_key=SecretStr(key) if key else None)
    with pytest.raises(ArtifactError, match=said) as caught:
        take_in(store, parse_ref("a/b/c:v0"), ForeignSource(server=server))
    assert str(caught.value).startswith("a/b/c:v0 is one of W&B: ")
    assert len(str(caught.value).splitlines()) == 1
    assert "artifacts sync" not in str(caught.value)


def test_without_wandb_it_is_told_what_to_install(
    take: Take, others: Others, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb.py").write_text("raise ModuleNotFoundError('no wandb', name='wandb')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ArtifactError, match=r"pip install 'nemotron-flows\[wandb\]'$"):
        take("corpus:v0", others.source)


def test_where_nothing_may_be_fetched_it_is_not_taken(take: Take, others: Others, store: ArtifactStore) -> None:
    with pytest.raises(NotTakenYet, match=f"{others.name('corpus:v0')} is still on W&B only; a run of the stage takes"):
        take("corpus:v0", replace(others.source, may_fetch=False))
    assert not store.exists()


def test_two_who_take_the_same_have_the_same(take: Take, others: Others, store: ArtifactStore) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda name: take(name, others.source), ["corpus:v0", "corpus:best"])
    assert first == second
    assert store.version_names(first.name) == ["v0"]


def test_a_number_that_something_else_has_is_refused(take: Take, others: Others, store: ArtifactStore) -> None:
    ref = publish_in_its_place(store, others)
    with pytest.raises(
        ArtifactCorrupted, match=f"corpus:v0 has W&B's digest .* now, but {ref} in .* is from elsewhere"
    ):
        take("corpus:v0")
    pin = find_pin(store, take("corpus:v1"), others.source.server)
    assert pin is not None
    add_pin(store, ref, pin.model_copy(update={"qualified_name": others.name("corpus:v0"), "digest": "was"}))
    with pytest.raises(ArtifactCorrupted, match=r"is .*corpus:v0 with W&B's digest was; name another version"):
        take("corpus:best")


def publish_in_its_place(store: ArtifactStore, others: Others) -> ArtifactRef:
    return store.publish(
        others.folder / "ckpt",
        name=others.local("corpus"),
        type="dataset",
        metadata={},
        producer=Producer(run_id="r", stage="s", fingerprint=""),
        version=0,
    )


@pytest.fixture(scope="session")
def sent(wandb_process: WandbServerProcess, tmp_path_factory: pytest.TempPathFactory) -> MirroredStore:
    """A store that has sent data and a model to the server."""
    made = MirroredStore(folder=tmp_path_factory.mktemp("sent"), server=wandb_process, project=new_project())
    made.publish(
        "data",
        files=("a.bin", "sub/b.bin", "metadata.json"),
        metadata={f"key-{number}": number for number in range(120)},
    )
    made.publish("model", policy="reference", files=("w.bin", "sub/x.bin"))
    made.sync()
    return made


def test_what_this_store_put_there_is_its_own_version(sent: MirroredStore, helper: Helper) -> None:
    source, unreachable = ForeignSource(server=sent.wandb), WandbServer(base_url=sent.server.url)
    ref = sent.store.resolve("data:v0")
    assert take_in(sent.store, parse_ref(f"{sent.place}/data:latest"), source, helper=helper) == ref
    assert take_in(sent.store, parse_ref(f"{sent.place}/data:v0"), ForeignSource(server=unreachable)) == ref
    assert sent.store.names() == ["data", "model"]


def test_what_another_store_put_there_is_taken_whole(sent: MirroredStore, store: ArtifactStore, helper: Helper) -> None:
    ref = sent.store.resolve("data:v0")
    source = ForeignSource(server=sent.wandb)
    taken = take_in(store, parse_ref(f"{sent.place}/data:v0"), source, helper=helper)
    assert (taken.digest, taken.metadata, taken.type) == (ref.digest, ref.metadata, ref.type)
    assert contents(store, taken) == {name: name for name in ("a.bin", "sub/b.bin", "metadata.json")}


def test_what_another_store_refers_to_is_taken_as_it_lies(
    sent: MirroredStore, store: ArtifactStore, helper: Helper
) -> None:
    source = ForeignSource(server=sent.wandb)
    taken = take_in(store, parse_ref(f"{sent.place}/model:v0"), source, helper=helper)
    assert taken.digest == sent.store.resolve("model:v0").digest
    assert store.materialize(taken) == sent.folder / "model"


@pytest.mark.parametrize(("name", "file"), [("data", "a.bin"), ("model", "w.bin")])
def test_what_another_store_put_there_is_compared_with_its_digests(
    name: str, file: str, sent: MirroredStore, store: ArtifactStore, helper: Helper
) -> None:
    entries = {entry.path: entry for entry in sent.store.manifest(sent.store.resolve(name)).entries}
    path = Path(entries[file].ref or sent.folder / "store" / object_key(entries[file].digest))
    path.chmod(0o644)
    path.write_text(file.upper())
    try:
        with pytest.raises(ArtifactCorrupted, match=rf"{name}:v0: {file}: expected blake3:.*, got blake3:"):
            take_in(store, parse_ref(f"{sent.place}/{name}:v0"), ForeignSource(server=sent.wandb), helper=helper)
    finally:
        path.write_text(file)
    assert store.names() == []


def test_a_store_at_a_url_takes_it_in_too(others: Others, s3_bucket: str, helper: Helper) -> None:
    store = ArtifactStore(f"{s3_bucket}/store")
    ref = take_in(store, parse_ref(others.name("corpus:v0")), others.source, helper=helper)
    assert contents(store, ref)["a.txt"] == "one a.txt"


@pytest.mark.parametrize(
    ("qualified_name", "url", "local"),
    [
        ("team/proj/data:v3", "https://api.wandb.ai", "wandb.team.proj.data"),
        ("team/proj/a.b-c_d:v3", "https://api.wandb.ai", "wandb.team.proj.a.b-c_d"),
        ("team/proj/data:v3", "https://wandb.example.com:8080", "wandb.wandb.example.com-8080..team.proj.data"),
    ],
)
def test_the_name_in_the_store_says_where_it_is_from(qualified_name: str, url: str, local: str) -> None:
    assert foreign_name(qualified_name, WandbServer(base_url=url)) == local


def test_no_two_have_the_same_name_in_the_store() -> None:
    server = WandbServer(base_url="https://api.wandb.ai")
    long = "x" * 128
    places = ["a.b/c/d", "a/b.c/d", "a/b/c.d", "a-b/c/d", "a b/c/d", "a/b c/d", f"{long}/{long}/d", f"{long}/{long}/e"]
    names = {foreign_name(f"{place}:v0", server) for place in places}
    assert len(names) == len(places)
    assert all(parse_ref(name).name == name for name in names)


def test_a_type_that_does_not_fit_the_slot_is_told_with_both(others: Others, store: ArtifactStore) -> None:
    reference = others.name("ckpt:v0")
    with pytest.raises(ArtifactError, match=f"{reference} is a model, expected SFTDataArtifact; name one of that type"):
        resolve_reference(store, reference, "SFTDataArtifact", others.source)
    assert resolve_reference(store, reference, "ModelArtifact", others.unreachable).type == "model"
