"""Files are written whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest

from mamba2_lab.files import replacing, write_text


class PowerCutError(Exception):
    pass


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_text_is_written_as_utf8(tmp_path):
    write_text(tmp_path / "note.txt", "né €\n")
    assert (tmp_path / "note.txt").read_bytes() == b"n\xc3\xa9 \xe2\x82\xac\n"
    assert names(tmp_path) == ["note.txt"]


def test_missing_folders_are_made(tmp_path):
    write_text(str(tmp_path / "a" / "b" / "note.txt"), "hello")
    assert (tmp_path / "a" / "b" / "note.txt").read_text(encoding="utf-8") == "hello"


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("ne")
        assert path.read_text() == "old"
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent, "only on the same disk is a rename one step"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["note.txt"]


@pytest.mark.parametrize("error", [PowerCutError, KeyboardInterrupt], ids=["error", "Ctrl-C"])
@pytest.mark.parametrize("old", ["old", None], ids=["over an old file", "where none was"])
def test_an_interruption_leaves_what_was_there_and_nothing_else(tmp_path, error, old):
    path = tmp_path / "note.txt"
    if old is not None:
        path.write_text(old)
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert names(tmp_path) == ([] if old is None else ["note.txt"])
    if old is not None:
        assert path.read_text() == old


def test_a_file_that_cannot_take_its_place_is_removed(tmp_path):
    path = tmp_path / "folder"
    (path / "inside").mkdir(parents=True)
    with pytest.raises(OSError), replacing(path) as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == ["folder"]


@pytest.mark.skipif(os.name != "posix", reason="permission bits are those of POSIX")
def test_others_may_read_what_was_written(tmp_path):
    write_text(tmp_path / "note.txt", "hello")
    assert stat.S_IMODE((tmp_path / "note.txt").stat().st_mode) == 0o644
