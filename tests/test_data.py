"""The corpus that every user has, and the windows cut out of it."""

from __future__ import annotations

import hashlib
import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mamba2_lab.data import Corpus, Document, PackedTokens, pack, standard_library
from mamba2_lab.tokenizer import ByteTokenizer

END = ByteTokenizer.end_of_text


def write(root, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))


def all_of(corpus: Corpus) -> dict[str, str]:
    return {document.name: document.text for document in corpus.train + corpus.held_out}


def should_be_held_out(name: str) -> bool:
    """The rule, once more: the first 64 bits of SHA-256 of the name, one in twenty."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) % 20 == 0


def name_that(held_out: bool, prefix: str) -> str:
    return next(name for i in range(1000) if should_be_held_out(name := f"{prefix}{i}.py") is held_out)


# The corpus


def test_documents_come_sorted_by_name_whatever_the_order_on_disk(tmp_path):
    listed = ["b.py", "a/z.py", "a.py", "a/b/c.py", "Z.py"]
    for root, order in ((tmp_path / "one", listed), (tmp_path / "two", listed[::-1])):
        write(root, {name: f"# {name}\n" for name in order})
    one, two = standard_library(tmp_path / "one"), standard_library(tmp_path / "two")
    assert one == two
    for documents in (one.train, one.held_out):
        assert [d.name for d in documents] == sorted(d.name for d in documents)
    assert all_of(one) == {name: f"# {name}\n" for name in listed}


def test_only_python_files_outside_the_skipped_folders_are_read(tmp_path):
    skipped = ["site-packages/pip/x.py", "json/tests/x.py", "test/x.py", "__pycache__/x.py", "idlelib/x.py", "note.txt"]
    kept = ["test.py", "json/testing.py", "latest/x.py"]
    write(tmp_path, {name: f"# {name}\n" for name in skipped + kept})
    assert set(all_of(standard_library(tmp_path))) == set(kept)


def test_a_skipped_name_above_the_root_does_not_matter(tmp_path):
    root = tmp_path / "tests" / "lib"
    write(root, {"a.py": "pass\n"})
    assert set(all_of(standard_library(str(root)))) == {"a.py"}


def test_what_is_held_out_depends_on_the_name_alone(tmp_path):
    names = [f"m{i}.py" for i in range(100)]
    write(tmp_path / "all", {name: f"# {name}\n" for name in names})
    write(tmp_path / "some", {name: f"# other text of {name}\n" for name in names[::3]})
    corpus = standard_library(tmp_path / "all")
    assert {d.name for d in corpus.held_out} == {name for name in names if should_be_held_out(name)}
    assert len(corpus.held_out) > 0
    some = standard_library(tmp_path / "some")
    assert {d.name for d in some.held_out} == {name for name in names[::3] if should_be_held_out(name)}


@pytest.mark.parametrize("first_held_out", [False, True])
def test_the_same_text_twice_is_read_once_and_never_on_both_sides(tmp_path, first_held_out):
    first, second = name_that(first_held_out, "a"), name_that(not first_held_out, "b")
    write(tmp_path, {first: "same = 1\n", second: "same = 1\n", "c.py": "other = 2\n"})
    assert set(all_of(standard_library(tmp_path))) == {first, "c.py"}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("# -*- coding: latin-1 -*-\ns = 'é'\n".encode("latin-1"), "# -*- coding: latin-1 -*-\ns = 'é'\n"),
        ("s = 'é'\n".encode("utf-8-sig"), "s = 'é'\n"),
        ("s = 'é €'\n".encode(), "s = 'é €'\n"),
        (b"a = 1\r\nb = 2\r\n", "a = 1\nb = 2\n"),
    ],
    ids=["latin-1", "utf-8 with a mark", "utf-8", "line ends of Windows"],
)
def test_a_file_is_read_in_the_encoding_that_it_declares(tmp_path, content, text):
    write(tmp_path, {"a.py": content})
    corpus = standard_library(tmp_path)
    assert all_of(corpus) == {"a.py": text}
    assert corpus.unreadable == ()


@pytest.mark.parametrize(
    "content",
    [b"s = '\xe9'\n", b"# coding: no-such-encoding\n", b"# coding: rot13\n", b"\xef\xbb\xbf# coding: latin-1\n"],
    ids=["latin-1 undeclared", "unknown encoding", "an encoding that is not of text", "mark against declaration"],
)
def test_a_file_that_does_not_hold_to_its_encoding_is_listed_and_left_out(tmp_path, content):
    write(tmp_path, {"bad.py": content, "good.py": "pass\n"})
    corpus = standard_library(tmp_path)
    assert corpus.unreadable == ("bad.py",)
    assert set(all_of(corpus)) == {"good.py"}


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_broken_link_is_listed_and_left_out(tmp_path):
    write(tmp_path, {"good.py": "pass\n"})
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    corpus = standard_library(tmp_path)
    assert corpus.unreadable == ("gone.py",)
    assert set(all_of(corpus)) == {"good.py"}


@pytest.mark.parametrize("files", [{}, {"note.txt": "text"}, {"empty.py": ""}, {"tests/a.py": "pass\n"}], ids=str)
def test_a_root_without_python_source_is_refused_by_name(tmp_path, files):
    write(tmp_path, files)
    with pytest.raises(FileNotFoundError) as caught:
        standard_library(tmp_path)
    assert str(caught.value) == f"root must hold Python source files; found none under {tmp_path}"


def test_the_library_of_this_python_is_megabytes_of_text_and_held_out_files_are_apart():
    corpus = standard_library()
    size = sum(document.bytes for document in corpus.train)
    assert size > 3_000_000
    assert 0.01 < len(corpus.held_out) / len(corpus.train + corpus.held_out) < 0.1
    assert {d.text for d in corpus.train}.isdisjoint(d.text for d in corpus.held_out)
    assert {d.name for d in corpus.train}.isdisjoint(d.name for d in corpus.held_out)
    assert all(should_be_held_out(d.name) for d in corpus.held_out)
    assert "json/decoder.py" in all_of(corpus)


def test_the_size_of_a_document_is_counted_in_utf8():
    assert Document("a.py", "né€🐍").bytes == 1 + 2 + 3 + 4


# Packing

documents = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=8)


def packed(*texts: str) -> PackedTokens:
    return pack([Document(f"{i}.py", text) for i, text in enumerate(texts)], ByteTokenizer())


@given(documents)
def test_packed_documents_can_be_told_apart_and_read_again(texts):
    tokens = packed(*texts)
    expected_ids, expected_documents = [], []
    for i, text in enumerate(texts):
        expected_ids += [END, *text.encode("utf-8")]
        expected_documents += [i] * (1 + len(text.encode("utf-8")))
    assert tokens.ids.tolist() == expected_ids
    assert tokens.document_ids.tolist() == expected_documents
    assert len(tokens) == len(expected_ids)
    for i, text in enumerate(texts):
        assert ByteTokenizer().decode(tokens.ids[tokens.document_ids == i]) == text


def test_packing_no_documents_is_refused():
    with pytest.raises(ValueError, match="documents must hold at least one document; got none"):
        packed()


def test_a_window_holds_tokens_the_ones_that_follow_and_their_documents():
    tokens = packed("abc", "de")  # END a b c END d e
    batch = tokens.windows(torch.tensor([0, 2, 4]), 2)
    a, b, c, d, e = b"abcde"
    assert batch.input_ids.tolist() == [[END, a], [b, c], [END, d]]
    assert batch.targets.tolist() == [[a, b], [c, END], [d, e]]
    assert batch.document_ids.tolist() == [[0, 0], [0, 0], [1, 1]]
    assert tokens.windows(torch.tensor([3]), 3).document_ids.tolist() == [[0, 1, 1]]
    assert batch.input_ids.dtype == batch.targets.dtype == torch.int64


def numbered(count: int) -> PackedTokens:
    """Token i has id i, so that a batch tells where it was cut."""
    return PackedTokens(torch.arange(count, dtype=torch.int32), torch.zeros(count, dtype=torch.long))


@given(count=st.integers(2, 40), data=st.data())
def test_every_window_that_fits_is_drawn_and_no_other(count, data):
    length = data.draw(st.integers(1, count - 1))
    starts = count - length  # the last window's last target is the last token
    batch = numbered(count).random_batch(60 * starts, length, torch.Generator().manual_seed(0))
    assert set(batch.input_ids[:, 0].tolist()) == set(range(starts))
    assert torch.equal(batch.targets, batch.input_ids + 1)
    assert torch.equal(batch.input_ids, batch.input_ids[:, :1] + torch.arange(length))
    assert int(batch.targets.max()) == count - 1


def test_windows_are_drawn_from_the_generator_alone():
    tokens = numbered(1000)

    def starts(seed: int) -> list[int]:
        return tokens.random_batch(16, 10, torch.Generator().manual_seed(seed)).input_ids[:, 0].tolist()

    before = torch.random.get_rng_state()
    assert starts(1) == starts(1)
    assert starts(1) != starts(2)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("length", [10, 11, 500])
def test_a_window_longer_than_the_text_is_refused(length):
    with pytest.raises(ValueError, match=f"length must be less than the 10 tokens there are; got {length}"):
        numbered(10).random_batch(2, length, torch.Generator())


def test_a_batch_moves_as_one():
    batch = numbered(10).windows(torch.tensor([1]), 3).to("meta")
    assert {batch.input_ids.device.type, batch.targets.device.type, batch.document_ids.device.type} == {"meta"}
