from pathlib import Path

import pytest

from nemo_runspec.errors import DataError
from nemotron.recipes.nano3.text_sources import TextSource, cut_documents, describe_source, read_text, split_items

POEM = "\n\n".join(f"Verse {n}, first line\nVerse {n}, second line" for n in range(40))


def write(folder: Path, content: bytes) -> Path:
    path = folder / "text.txt"
    path.write_bytes(content)
    return path


def words(text: str) -> list[str]:
    return text.split()


@pytest.mark.parametrize("text", ["a", "a\nb\n", "naïve café", "日本語", "🐈\u200d⬛ e\u0301", "a\rb", "\ta  b\x0c"])
def test_text_is_read_as_it_is(tmp_path: Path, text: str) -> None:
    assert read_text(write(tmp_path, text.encode())) == text


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    assert read_text(write(tmp_path, b"\xef\xbb\xbfabc")) == "abc"


def test_lines_ended_as_on_windows_become_plain_lines(tmp_path: Path) -> None:
    assert read_text(write(tmp_path, b"a\r\nb\r\n\r\nc")) == "a\nb\n\nc"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"empty \(0 bytes, no text\); give a UTF-8 text file"),
        (b" \n\t\r\n ", r"empty \(6 bytes, no text\)"),
        (b"\xef\xbb\xbf", r"empty \(3 bytes, no text\)"),
        (b"PK\x03\x04\x00\x00", r"binary data \(a NUL byte at 4\)"),
        ("Größe".encode("utf-16"), r"binary data \(a NUL byte at 3\)"),
        ("Größe".encode("latin-1"), r"not UTF-8: byte 0xf6 at 2; convert it to UTF-8"),
        (b"\xef\xbb\xbfGr\xf6\xdfe", r"not UTF-8: byte 0xf6 at 5"),
        (b"cut \xe6\x97", r"not UTF-8: byte 0xe6 at 4"),
    ],
    ids=["empty", "white", "only a BOM", "binary", "utf-16", "latin-1", "latin-1 after a BOM", "cut in a character"],
)
def test_a_file_that_is_no_text_is_refused_by_what_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=rf"text\.txt: {said}"):
        read_text(write(tmp_path, content))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.txt: cannot be read: No such file or directory; give a UTF-8 text"):
        read_text(tmp_path / "absent.txt")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read: Is a directory"):
        read_text(tmp_path)


@pytest.mark.parametrize("target", [1, 10, 50, 1000, 10**6])
@pytest.mark.parametrize(
    "text",
    [POEM, POEM.replace("\n\n", "\n"), "one line " * 500, "a\n\n\n\nb\n", "\n\n a\n\n\tb \n", "x" + "\n" * 60 + "y"],
    ids=["verses", "one paragraph", "one line", "gaps", "indented", "a large gap"],
)
def test_cutting_loses_no_word_and_makes_no_empty_document(text: str, target: int) -> None:
    documents = cut_documents(text, target_chars=target)
    assert words("\n\n".join(documents)) == words(text)
    assert [document for document in documents if not document.strip()] == []


def test_whole_paragraphs_are_joined_to_about_the_target() -> None:
    documents = cut_documents(POEM, target_chars=200)
    lengths = [len(document) for document in documents[:-1]]
    assert min(lengths) >= 195
    assert max(lengths) < 260
    assert all(document.startswith("Verse") and document.endswith("second line") for document in documents)


def test_a_long_paragraph_is_cut_between_lines() -> None:
    paragraph = "".join(f"line {n}\n" for n in range(100))
    documents = cut_documents(paragraph, target_chars=50)
    assert len(documents) > 10
    assert "\n".join(documents) == paragraph.strip("\n")


def test_a_line_is_never_cut() -> None:
    assert cut_documents("word " * 100, target_chars=50) == ["word " * 100]


@pytest.mark.parametrize("fraction", [1e-6, 0.05, 0.5, 0.999])
@pytest.mark.parametrize("number", [2, 3, 100])
def test_each_split_gets_at_least_one_and_every_item_goes_to_one_of_them(number: int, fraction: float) -> None:
    items = [f"document {n}" for n in range(number)]
    split = split_items(items, valid_fraction=fraction, seed=1, origin="x")
    assert split["train"]
    assert split["valid"]
    assert sorted(split["train"] + split["valid"]) == sorted(items)


def test_valid_gets_its_fraction() -> None:
    split = split_items(range(200), valid_fraction=0.1, seed=1, origin="x")
    assert {name: len(items) for name, items in split.items()} == {"train": 180, "valid": 20}


def test_the_order_within_a_split_stays() -> None:
    split = split_items(range(100), valid_fraction=0.3, seed=1, origin="x")
    assert all(items == sorted(items) for items in split.values())


def test_the_split_depends_on_the_seed_alone() -> None:
    one, same, other = (split_items(range(100), valid_fraction=0.3, seed=seed, origin="x") for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize("items", [[], ["only"]], ids=len)
def test_fewer_than_two_documents_are_refused(items: list[str]) -> None:
    with pytest.raises(DataError, match=rf"book\.txt: {len(items)} item\(s\), but train and valid need one each"):
        split_items(items, valid_fraction=0.5, seed=1, origin="book.txt")


def test_lineage_keeps_where_a_source_is_from_and_its_digest(tmp_path: Path) -> None:
    source = TextSource(name="book", path=write(tmp_path, b"abc"), weight=0.3)
    described = describe_source(source, num_rows=2)
    assert (described.name, described.uri, described.weight) == ("book", str(tmp_path / "text.txt"), 0.3)
    assert (described.num_rows, described.size_bytes) == (2, 3)
    assert described.sha256 == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("name", ["", "../up", "a b", ".hidden", "a\n"])
def test_a_source_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        TextSource(name=name, path=Path("x"))
