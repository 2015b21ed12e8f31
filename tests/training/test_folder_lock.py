"""A folder has one owner: another thread, another process, and one that died."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from mamba2_lab.training import folder_lock
from mamba2_lab.training.folder_lock import LOCK_NAME, owned


def is_refused(folder: Path) -> str:
    with pytest.raises(ValueError, match="^folder must be free, but is in use by process") as caught, owned(folder):
        raise AssertionError("there were two owners")
    return str(caught.value)


def test_the_folder_is_made_and_left_as_it_was(tmp_path):
    folder = tmp_path / "a" / "b"
    with owned(folder):
        assert [path.name for path in folder.iterdir()] == [LOCK_NAME]
    assert not list(folder.iterdir())


def test_a_second_owner_is_refused_in_this_thread_and_in_others_and_told_who_the_first_is(tmp_path):
    with owned(tmp_path):
        text = is_refused(tmp_path)
        assert text.startswith(f"folder must be free, but is in use by process {os.getpid()} on ")
        assert text.endswith(f"; got '{tmp_path}'")
        told = []
        thread = threading.Thread(target=lambda: told.append(is_refused(tmp_path)))
        thread.start()
        thread.join()
        assert told == [text]
        with owned(tmp_path / "another"):
            pass
    with owned(tmp_path):
        pass


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_owner_that_ended_in_an_error_owns_nothing(tmp_path, error):
    with pytest.raises(error), owned(tmp_path):
        raise error
    with owned(tmp_path):
        pass


def test_another_process_owns_it_until_it_is_killed(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from mamba2_lab.training.folder_lock import owned\n"
        "with owned(Path(sys.argv[1])): print('mine', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline().strip() == b"mine"
    assert f"in use by process {holder.pid} on " in is_refused(tmp_path)
    holder.kill()
    holder.communicate()
    assert (tmp_path / LOCK_NAME).exists()
    with owned(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / LOCK_NAME).read_text()


@pytest.mark.skipif(os.name != "posix", reason="Windows removes no open files")
def test_a_lock_that_was_removed_while_another_waited_to_take_it_is_none(tmp_path, monkeypatch):
    """The other opened the file; its owner removes it and ends; a third makes a new one. The other locks the old."""
    path, lock, third = tmp_path / LOCK_NAME, folder_lock._lock, []

    def late(file, folder):
        if not third:
            path.unlink()
            third.append(path.open("ab"))
        return lock(file, folder)

    monkeypatch.setattr(folder_lock, "_lock", late)
    with owned(tmp_path):
        assert os.path.samestat(os.fstat(third[0].fileno()), path.stat())
        monkeypatch.undo()
        is_refused(tmp_path)
    third[0].close()


@pytest.mark.skipif(os.name != "posix", reason="flock is of POSIX")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", fail)
    entered = False
    with pytest.warns(UserWarning, match=f"{tmp_path} is on a file system without locks .*second training"):
        with owned(tmp_path):
            entered = True
    assert entered


def test_where_there_are_locks_nothing_is_warned_of(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with owned(tmp_path):
            pass


def test_a_file_in_the_folders_place_is_one_sentence(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for folder in (file, file / "below"):
        with pytest.raises(OSError, match=rf"^folder must be one to write in \(.*\); got '{folder}'$") as caught:
            with owned(folder):
                pass
        assert "\n" not in str(caught.value)
    assert file.read_text() == "mine"


def test_a_folder_that_cannot_be_written_to_is_one_sentence(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(PermissionError, match=r"^folder must be one to write in \(Permission denied\); got"):
        with owned(tmp_path):
            pass
