"""The text that a user has or brings, and the windows cut out of it."""

from __future__ import annotations

import hashlib
import os
import sysconfig

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mamba2_lab.data import (
    Corpus,
    Document,
    PackedTokens,
    installed_packages,
    pack,
    standard_library,
    text_files,
)
from mamba2_lab.data.python_source import is_vendored
from mamba2_lab.data.user_text import files_at, read_text_file
from mamba2_lab.text import BPETokenizer, ByteTokenizer

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


def test_code_of_other_projects_is_told_by_its_folder():
    assert is_vendored("pip/_vendor/rich/box.py") and is_vendored("sklearn/externals/array_api.py")
    assert not any(map(is_vendored, ["pip/box.py", "vendor.py", "sympy/external/ntheory.py"]))


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


def test_files_that_list_the_machines_own_paths_are_left_out(tmp_path):
    files = {"_sysconfigdata__linux_x86_64-linux-gnu.py": "build = '/somewhere'\n", "sysconfig.py": "import os\n"}
    write(tmp_path, files)
    assert all_of(standard_library(tmp_path)) == {"sysconfig.py": "import os\n"}


def test_the_size_of_a_document_is_counted_in_utf8():
    assert Document("a.py", "né€🐍").bytes == 1 + 2 + 3 + 4


# Installed packages


def packages(count: int = 10, files: int = 10) -> dict[str, str]:
    """Files of 100 bytes each, no two alike."""
    return {name: f"# {name}".ljust(99) + "\n" for i in range(count) for j in range(files) if (name := f"p{i}/m{j}.py")}


def hash_order(names) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def test_packages_are_named_by_folder_sorted_and_held_out_by_name(tmp_path):
    files = packages()
    write(tmp_path, files)
    corpus = installed_packages(root=tmp_path)
    assert all_of(corpus) == files
    for documents in (corpus.train, corpus.held_out):
        assert [d.name for d in documents] == sorted(d.name for d in documents)
    assert {d.name for d in corpus.held_out} == {name for name in files if should_be_held_out(name)} != set()


@pytest.mark.parametrize("bound", [100, 199, 200, 5000, 9999])
def test_a_bound_takes_files_in_the_order_of_their_hashes(tmp_path, bound):
    files = packages()
    write(tmp_path / "one", files)
    write(tmp_path / "two", dict(reversed(files.items())))
    one, two = (installed_packages(bound, tmp_path / folder) for folder in ("one", "two"))
    assert one == two
    assert set(all_of(one)) == set(hash_order(files)[: bound // 100])


def test_a_bounded_corpus_is_a_sample_of_every_package(tmp_path):
    write(tmp_path, packages())
    found = all_of(installed_packages(5000, tmp_path))
    assert len(found) == 50
    assert {name.split("/")[0] for name in found} == {f"p{i}" for i in range(10)}


def test_reading_ends_at_the_first_file_that_does_not_fit(tmp_path):
    names = hash_order(packages())[:3]
    write(tmp_path, dict(zip(names, ["# é\n", "x = 1\n" * 10, "y\n"], strict=True)))  # 5, 60 and 2 bytes
    assert set(all_of(installed_packages(64, tmp_path))) == {names[0]}
    assert set(all_of(installed_packages(65, tmp_path))) == set(names[:2])
    with pytest.raises(ValueError) as caught:
        installed_packages(4, tmp_path)
    assert str(caught.value) == f"max_bytes must have room for the first file, {names[0]} of 5 bytes; got 4"


def test_the_same_text_counts_once_against_the_bound(tmp_path):
    names = hash_order(packages())[:3]
    write(tmp_path, dict(zip(names, ["a = 1\n", "a = 1\n", "b = 2\n"], strict=True)))
    assert set(all_of(installed_packages(12, tmp_path))) == {names[0], names[2]}


NINE_LINES = "# line\n" * 9
RULES = {
    "200 kB": (("x = 1".ljust(79) + "\n") * 2500, True),
    "a byte more": (("x = 1".ljust(79) + "\n") * 2500 + "\n", False),
    "a line of 1000": ("x = 1\n" * 20 + "s = '" + "a" * 994 + "'\n", True),
    "a line of 1001": ("x = 1\n" * 20 + "s = '" + "a" * 995 + "'\n", False),
    "100 to a line": (("x" * 99 + "\n") * 10, True),
    "101 to a line": (("x" * 100 + "\n") * 10, False),
    "automatically": ("# Automatically generated from grammar.txt\nx = 1\n", False),
    "tenth line": (NINE_LINES + "# DO NOT EDIT\n", False),
    "eleventh line": (NINE_LINES + "#\n# do not edit\n", True),
    "auto-generated": ("# auto-generated\n", False),
    "autogenerated": ("# Autogenerated.\n", False),
    "by": ("# generated by a script\n", False),
    "by hand": ("# Text is generated, by hand edited\n", True),
}


@pytest.mark.parametrize(("text", "kept"), RULES.values(), ids=RULES)
def test_large_wide_and_generated_files_are_left_out(tmp_path, text, kept):
    write(tmp_path, {"p/a.py": text, "p/b.py": "pass\n"})
    corpus = installed_packages(root=tmp_path)
    assert set(all_of(corpus)) == ({"p/a.py", "p/b.py"} if kept else {"p/b.py"})
    assert corpus.unreadable == (), "left out by rule is not unreadable"


def test_tests_and_unreadable_files_of_packages_are_left_out(tmp_path):
    bad = {"p/latin.py": b"s = '\xe9'\n", "a/latin.py": b"s = '\xe9'\n"}
    write(tmp_path, {"p/a.py": "pass\n", "p/tests/a.py": "1\n", "p/test/a.py": "2\n", "p/note.txt": "3\n", **bad})
    corpus = installed_packages(root=tmp_path)
    assert set(all_of(corpus)) == {"p/a.py"}
    assert corpus.unreadable == ("a/latin.py", "p/latin.py")


def test_only_the_packages_that_are_asked_for_are_read(tmp_path):
    files = {"a/x.py": "1\n", "a/b/y.py": "2\n", "b/z.py": "3\n", "six.py": "4\n", "ab/w.py": "5\n"}
    write(tmp_path, files)
    found = all_of(installed_packages(root=tmp_path, only={"a": "whatever", "six": None}))
    assert found == {name: files[name] for name in ("a/x.py", "a/b/y.py", "six.py")}


def test_both_folders_of_installed_packages_are_read_and_a_name_in_both_once(tmp_path, monkeypatch):
    write(tmp_path / "lib", {"p/a.py": "pure\n", "p/b.py": "b\n"})
    write(tmp_path / "lib64", {"p/a.py": "plat\n", "q/c.py": "c\n"})
    folders = {"purelib": str(tmp_path / "lib"), "platlib": str(tmp_path / "lib64")}
    monkeypatch.setattr(sysconfig, "get_paths", lambda: folders)
    assert all_of(installed_packages()) == {"p/a.py": "pure\n", "p/b.py": "b\n", "q/c.py": "c\n"}


def test_a_folder_without_packages_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        installed_packages(root=tmp_path)
    assert str(caught.value) == f"root must hold Python source files; found none under {tmp_path}"


def test_what_is_installed_here_is_found():
    corpus = installed_packages(4_000_000)
    size = sum(document.bytes for document in corpus.train + corpus.held_out)
    assert 3_800_000 < size <= 4_000_000
    names = {document.name.split("/")[0] for document in corpus.train}
    assert {"torch", "numpy"} <= names
    assert all(should_be_held_out(d.name) for d in corpus.held_out)


# A reader's own text


def held_out_names(corpus: Corpus) -> set[str]:
    return {document.name for document in corpus.held_out}


def test_a_folder_is_read_with_the_folders_below_and_held_out_by_name(tmp_path):
    files = {f"{folder}/{i}.txt": f"text {folder} {i}\n" for folder in ("a", "b/c") for i in range(50)}
    write(tmp_path, {**files, ".git/x.txt": "hidden\n", "a/.secret": "hidden\n", "a/.d/e/x.txt": "hidden\n"})
    corpus = text_files(tmp_path)
    assert all_of(corpus) == files
    assert held_out_names(corpus) == {name for name in files if should_be_held_out(name)} != set()
    assert text_files(str(tmp_path)) == corpus


def test_a_hidden_folder_above_the_path_does_not_matter(tmp_path):
    write(tmp_path / ".notes", {"a.txt": "one\ntwo\n"})
    assert {d.name for d in text_files(tmp_path / ".notes").train} == {"a.txt"}


def test_a_pattern_chooses_files(tmp_path):
    write(tmp_path, {"a.md": "a text\n", "b/c.md": "c text\n", "b/d.txt": "d text\n"})
    assert {d.name for d in text_files(tmp_path, "*.md").train} == {"a.md", "b/c.md"}


@pytest.mark.parametrize(
    "content",
    [
        "né €\n".encode(),
        "né €\n".encode("utf-8-sig"),
        "né €\r\n".encode(),
        b"n\xc3\xa9 \xe2\x82\xac\r",
        b"\xff\xfe" + "né €\r\n".encode("utf-16-le"),
        b"\xfe\xff" + "né €\n".encode("utf-16-be"),
    ],
    ids=["utf-8", "utf-8 with a mark", "line ends of Windows", "line ends of old Macs", "utf-16 le", "utf-16 be"],
)
def test_text_is_read_whatever_its_mark_and_line_ends(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    corpus = text_files(tmp_path / "a.txt")
    assert "".join(d.text for d in corpus.train + corpus.held_out) == "né €\n"
    assert corpus.unreadable == ()


UNREADABLE = [b"s = '\xe9'\n", b"\x89PNG\0\1\2", "né\n".encode("utf-32"), b"\xff\xfea", b"x" * 101]


@pytest.mark.parametrize("content", UNREADABLE, ids=["latin-1", "binary", "utf-32", "half a character", "too large"])
def test_what_is_no_text_is_listed_and_left_out(tmp_path, content):
    write(tmp_path, {"bad.txt": content, "good.txt": "good text\n"})
    corpus = text_files(tmp_path, max_bytes=100)
    assert corpus.unreadable == ("bad.txt",)
    assert {d.name for d in corpus.train} == {"good.txt"}
    with pytest.raises(ValueError) as caught:
        text_files(tmp_path / "bad.txt", max_bytes=100)
    expected = "path must be a file or a folder that holds text in UTF-8 or marked UTF-16, at most 100 bytes a file"
    assert str(caught.value) == f"{expected}, and not only such files as bad.txt; got '{tmp_path / 'bad.txt'}'"


def test_a_folder_beyond_the_bound_is_sampled_by_hash(tmp_path):
    files = packages()
    write(tmp_path, files)
    corpus = text_files(tmp_path, max_bytes=5099)
    assert set(all_of(corpus)) == set(hash_order(files)[:50])
    assert corpus.held_out


def test_where_the_hash_holds_nothing_out_the_end_of_each_file_is(tmp_path):
    names = [name_that(False, "a"), name_that(False, "b")]
    text = "".join(f"line {i:03}\n" for i in range(100))  # 900 characters: the last twentieth begins at 855
    write(tmp_path, {names[0]: text, names[1]: text.replace("line", "Line")})
    corpus = text_files(tmp_path)
    assert [d.name for d in corpus.train] == names
    assert [d.name for d in corpus.held_out] == [f"{name} (end)" for name in names]
    assert corpus.train[0].text == text[:855] and corpus.held_out[0].text == text[855:]
    assert corpus.train[1].text + corpus.held_out[1].text == text.replace("line", "Line")


@pytest.mark.parametrize("held_out", [True, False])
def test_a_single_file_gives_both_sides_whatever_its_name(tmp_path, held_out):
    name = name_that(held_out, "s")
    text = "word\n" * 1000
    write(tmp_path, {name: text})
    corpus = text_files(tmp_path / name)
    assert [(d.name, d.text) for d in corpus.train] == [(name, text[:4750])]
    assert [(d.name, d.text) for d in corpus.held_out] == [(f"{name} (end)", text[4750:])]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("x" * 920 + "\n" + "x" * 79, 921),  # the break nearest before the last twentieth
        ("x\n" + "x" * 998, 950),  # none near: cut where the last twentieth begins
        ("x" * 1000, 950),
        ("ab", 1),
    ],
)
def test_the_end_is_cut_at_a_line_break_only_if_one_is_near(tmp_path, text, cut):
    write(tmp_path, {"a.txt": text})
    corpus = text_files(tmp_path / "a.txt")
    assert (corpus.train[0].text, corpus.held_out[0].text) == (text[:cut], text[cut:])


def test_a_path_with_nothing_at_it_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        text_files(tmp_path / "gone")
    assert str(caught.value) == f"path must be a file or a folder that is there; got '{tmp_path / 'gone'}'"
    with pytest.raises(ValueError, match="path must be .* that holds text in UTF-8 .* a file; got "):
        text_files(tmp_path)


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


class Unspeakable(ByteTokenizer):
    """One that refuses texts with a question mark."""

    def encode(self, text: str) -> list[int]:
        if "?" in text:
            raise ValueError("text must not come out as this tokenizer's end of text, '?'; it did")
        return super().encode(text)


@pytest.mark.parametrize("place", [0, 255, 256, 300])
def test_a_document_that_ends_a_packing_is_named(place):
    documents = [Document(f"folder/{i}.txt", "why?" if i == place else "because") for i in range(301)]
    with pytest.raises(ValueError) as caught:
        pack(documents, Unspeakable())
    said = "text must not come out as this tokenizer's end of text, '?'; it did"
    assert str(caught.value) == f"folder/{place}.txt: {said}"
    del documents[place]
    assert len(pack(documents, Unspeakable())) == 300 * len("_because")


def test_so_is_one_that_has_no_utf8():
    with pytest.raises(ValueError, match="^odd.py: 'utf-8' codec can't encode character .* surrogates not allowed"):
        pack([Document("a.py", "a"), Document("odd.py", "a\ud800")], ByteTokenizer())


def test_a_document_that_spells_a_special_token_is_packed_as_text():
    tokenizer = BPETokenizer.train(["a b"], 300)
    packed = pack([Document("a.py", "a<|end_of_text|>b"), Document("b.py", "")], tokenizer)
    assert (packed.ids == tokenizer.end_of_text).nonzero().flatten().tolist() == [0, len(packed) - 1]
    assert tokenizer.decode(packed.ids) == "a<|end_of_text|>b"


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


def test_windows_are_cut_where_the_tokens_are():
    batch = numbered(10).to("meta").random_batch(2, 3, torch.Generator().manual_seed(0))
    assert {batch.input_ids.device.type, batch.targets.device.type, batch.document_ids.device.type} == {"meta"}


def test_the_digest_of_tokens_is_that_of_their_ids_and_of_where_documents_begin():
    ids, documents = torch.tensor([256, 97, 256, 98]), torch.tensor([0, 0, 1, 1])
    written = b"".join(number.to_bytes(4, "little") for number in ids.tolist()) + bytes([1, 0, 1, 0])
    expected = hashlib.sha256(written).hexdigest()
    for numbers in (documents, documents * 7 + 3):
        for dtype in (torch.int32, torch.int64):
            assert PackedTokens(ids.to(dtype), numbers.to(dtype)).digest() == expected
    others = [
        PackedTokens(ids.flip(0), documents),
        PackedTokens(ids, torch.tensor([0, 0, 0, 1])),
        PackedTokens(ids, torch.tensor([0, 0, 0, 0])),
        PackedTokens(ids[:3], documents[:3]),
        PackedTokens(torch.tensor([256, 97, 256, 99]), documents),
    ]
    assert len({expected, *(tokens.digest() for tokens in others)}) == 6


def test_files_at_several_paths_are_each_found_once(tmp_path):
    write(tmp_path, {"b/c.md": "c", "a.md": "a", "b/d.txt": "d", ".hidden/e.md": "e"})
    found = files_at([tmp_path / "b", tmp_path, tmp_path / "a.md", tmp_path / "b" / ".." / "a.md"])
    assert list(found) == [(tmp_path / name).as_posix() for name in ("b/c.md", "b/d.txt", "a.md")]
    assert [read_text_file(path) for path in found.values()] == ["c", "d", "a"]
    assert list(files_at([tmp_path], "*.txt").values()) == [tmp_path / "b" / "d.txt"]
    with pytest.raises(FileNotFoundError, match="path must be a file or a folder that is there; got"):
        files_at([tmp_path, tmp_path / "gone"])
