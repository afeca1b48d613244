import re

import pytest
from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactStore, RequestedRef, parse_ref
from nemo_runspec.artifacts.refs import type_fits
from nemo_runspec.artifacts.slots import read_slot
from nemo_runspec.errors import ArtifactCorrupted, ArtifactError, ConfigError

HEX = "0123456789abcdef" * 4


def parts(text: str) -> tuple[str | None, ...]:
    found = parse_ref(text)
    return (found.entity, found.project, found.name, found.selector, found.digest)


@pytest.mark.parametrize("prefix", ["", "art://"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data", (None, None, "data", "latest", None)),
        ("data:latest", (None, None, "data", "latest", None)),
        ("data:best", (None, None, "data", "best", None)),
        ("data:v3", (None, None, "data", "v3", None)),
        ("data:3", (None, None, "data", "v3", None)),
        ("data:v03", (None, None, "data", "v03", None)),
        ("PretrainBlendsArtifact-v2:latest", (None, None, "PretrainBlendsArtifact-v2", "latest", None)),
        ("proj/data", (None, "proj", "data", "latest", None)),
        ("team/proj/data:v3", ("team", "proj", "data", "v3", None)),
        ("team/_p.1/data:best", ("team", "_p.1", "data", "best", None)),
        (f"data@sha256:{HEX}", (None, None, "data", "latest", f"sha256:{HEX}")),
        (f"team/proj/data:7@sha256:{HEX}", ("team", "proj", "data", "v7", f"sha256:{HEX}")),
    ],
)
def test_a_reference_has_these_parts(prefix: str, text: str, expected: tuple[str | None, ...]) -> None:
    assert parts(prefix + text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "a b", "a:", ":v0", "a:b:c", "art://", "http://a", "s3://bucket/a:v1", "/abs/path", "a/"),
        *("/a", "a//b", "a/b/c/d", "../x", "a/../b", "-a", "é", "a\n", "08:00:00", "a@", "a@v3", "a@sha256:", "a:v3@x"),
        *(f"a@md5:{HEX}", f"a@sha256:{HEX[:-1]}", f"a@sha256:{HEX}0", f"a@sha256:{HEX.upper()}", f"@sha256:{HEX}"),
        *("x" * 129, f"a/{'x' * 129}", "a:" + "x" * 129, "${art:a}", "a;b", "a,b", "a=b", "a|b", "~/a", "a\x00"),
        f"a@blake3:{HEX}",
    ],
)
def test_any_other_text_is_malformed_and_told_in_a_line(text: str) -> None:
    with pytest.raises(ArtifactError, match="is malformed; give NAME, NAME:vN") as caught:
        parse_ref(text)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("text", "same"), [("data", "art://data:latest"), ("a/data:3", f"a/data:v3@sha256:{HEX}")])
def test_what_means_the_same_is_written_the_same(text: str, same: str) -> None:
    assert str(parse_ref(text)) == str(parse_ref(same))


def test_what_is_written_can_be_read_again() -> None:
    wanted = RequestedRef(entity="team", project="proj", name="data", selector="v3")
    assert parse_ref(str(wanted)) == wanted


@pytest.mark.parametrize(("text", "exact"), [("a:v3", True), ("a:3", True), ("a", False), ("a:best", False)])
def test_only_a_version_is_exact(text: str, exact: bool) -> None:
    assert parse_ref(text).is_exact is exact


def test_a_digest_that_fits_is_taken(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "x"})
    assert store.resolve(f"data:latest@{ref.digest}") == ref


def test_a_digest_that_does_not_fit_is_told_with_both(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "x"})
    with pytest.raises(ArtifactCorrupted) as caught:
        store.resolve(f"data:v0@sha256:{HEX}")
    assert str(caught.value) == (
        f"data:v0@sha256:{HEX}: data:v0 has the digest {ref.digest}; correct the digest or the version"
    )


@pytest.mark.parametrize("text", ["a/b", "team/proj/data:v3", "art://a/b:v0"])
def test_the_store_itself_has_nothing_of_wandb(text: str, store: ArtifactStore) -> None:
    with pytest.raises(ArtifactError, match=re.escape(f"{text} is an artifact of a W&B server, which nemotron takes")):
        store.resolve(text)


@pytest.mark.parametrize("name", ["wandb.", "wandb.team.proj.data"])
def test_nothing_of_ones_own_is_named_as_what_is_from_wandb(name: str, publish: Publisher) -> None:
    with pytest.raises(ArtifactError, match=f"{name}' is reserved: what begins with 'wandb.' is from W&B"):
        publish({"a": "x"}, name=name)


@pytest.mark.parametrize(
    ("type_", "expected", "fits"),
    [
        ("ModelArtifact", "ModelArtifact", True),
        ("model", "ModelArtifact", True),
        ("dataset", "SFTDataArtifact", True),
        ("my-type", "my-type", True),
        ("model", "model", True),
        ("model", "SFTDataArtifact", False),
        ("dataset", "ModelArtifact", False),
        ("SFTDataArtifact", "PretrainDataArtifact", False),
        ("Model", "ModelArtifact", False),
    ],
)
def test_a_type_fits_itself_and_general_words_what_they_mean(type_: str, expected: str, fits: bool) -> None:
    assert type_fits(type_, expected) is fits


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([1], "a list"),
        (["a:v0"], "a list"),
        ({"a": 1}, "a section"),
        (3, "a number"),
        (1.5, "a number"),
        (True, "true or false"),
    ],
)
def test_a_slot_that_holds_no_text_is_refused_in_words(value: object, kind: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_slot(value, where="sft: run.data", type_name="SFTDataArtifact")
    assert str(caught.value) == (
        f"sft: run.data = {value!r} is {kind}; expected text, NAME:VERSION of an artifact, SFTDataArtifact"
    )


@pytest.mark.parametrize("value", [None, ""])
def test_an_empty_slot_has_nothing(value: object) -> None:
    assert read_slot(value, where="run.data") is None
