"""Files are written whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest
import safetensors.torch
import torch

from mamba2_lab.machine.files import replacing, write_text


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


on_posix = pytest.mark.skipif(os.name != "posix", reason="permission bits are those of POSIX")


@pytest.fixture
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def permissions(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@on_posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0o027], indirect=True, ids=oct)
def test_a_new_file_is_for_those_whom_the_umask_lets(tmp_path, umask):
    """safetensors writes files that only their owner may read, whatever the umask."""
    write_text(tmp_path / "made" / "note.txt", "hello")
    with replacing(tmp_path / "made" / "weights") as temporary:
        safetensors.torch.save_file({"w": torch.ones(2)}, temporary)
    (tmp_path / "expected").write_text("by the system")
    expected = permissions(tmp_path / "expected")
    assert expected == 0o666 & ~umask
    assert permissions(tmp_path / "made" / "note.txt") == permissions(tmp_path / "made" / "weights") == expected
    assert permissions(tmp_path / "made") == 0o777 & ~umask


@on_posix
@pytest.mark.parametrize("umask", [0o022, 0o077], indirect=True, ids=oct)
@pytest.mark.parametrize("old", [0o600, 0o664, 0o444], ids=oct)
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, umask, old):
    path = tmp_path / "note.txt"
    path.write_text("old")
    path.chmod(old)
    write_text(path, "new")
    assert path.read_text() == "new" and permissions(path) == old


@on_posix
@pytest.mark.parametrize("umask", [0o022], indirect=True)
def test_the_umask_of_other_threads_is_not_touched_meanwhile(tmp_path, umask, monkeypatch):
    """It is one for the whole process: to read it is to set it, for all threads."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was set"))
    write_text(tmp_path / "note.txt", "hello")


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, call=call: (done.append(name), call(*a))[1])
    write_text(tmp_path / "note.txt", "hello")
    assert done == ["fsync", "replace"]
