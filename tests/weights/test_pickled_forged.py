"""pytorch_model.bin that torch did not write: what it declares is not what is there, or the archive is another."""

from __future__ import annotations

import os
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.forged_pickles import Forged, Storage, honest, pickled, write_archive
from support.saved_models import assert_refused, assert_same
from support.small_models import small_model
from support.strange_files import soon
from torch import Tensor

from mamba2_lab import Mamba2LM

NAME = "pytorch_model.bin"
D = "layers.0.mixer.D"
BROKEN = "expected weights as torch.save writes them; found "
Weights = dict[str, Tensor]


def forge(folder: Path, weights: Weights, change: Callable[[dict[str, Any], dict[str, bytes]], object]) -> None:
    """The weights, as an honest forger writes them, but for the change."""
    content, records = honest(weights)
    change(content, records)
    write_archive(folder / NAME, pickled(content), records)


def test_what_an_honest_forger_writes_is_read(folder: Path, weights: Weights) -> None:
    """So that whatever is refused below is refused for what was changed."""
    forge(folder, weights, lambda content, records: None)
    assert_same(Mamba2LM.from_pretrained(folder), small_model())


# What is declared, and what is there


def declares(*arguments: Any, **storage: Any) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    """Of the tensor D, 4 numbers in the record "99": other things."""

    def change(content: dict[str, Any], records: dict[str, bytes]) -> None:
        records["data/99"] = bytes(16)
        content[D] = Forged(Storage(**{"key": "99", "numel": 4, **storage}), *arguments)

    return change


VIEW = f"{D}: expected a view of its 4 numbers; found shape "
ODD = f"{BROKEN}a tensor with more to it than a storage, a shape and strides"
LIES: dict[str, tuple[Callable[[dict[str, Any], dict[str, bytes]], object], str]] = {
    "one number as many": (declares(0, (2**40,), (0,)), VIEW),
    "one number as many, of many axes": (declares(0, (2**10,) * 4, (0,) * 4), VIEW),
    "rows that overlap": (declares(0, (3, 2), (1, 1)), VIEW),
    "beyond the end": (declares(0, (5,), (1,)), VIEW),
    "an offset beyond the end": (declares(1, (4,), (1,)), VIEW),
    "an offset before the beginning": (declares(-1, (4,), (1,)), VIEW),
    "strides beyond the end": (declares(0, (2, 2), (3, 1)), VIEW),
    "strides backwards": (declares(3, (4,), (-1,)), VIEW),
    "strides backwards, and forwards to make up for it": (declares(0, (2, 2), (-1, 2)), VIEW),
    "a shape below zero": (declares(0, (-4,), (1,)), VIEW),
    "numbers of axes that differ": (declares(0, (4,), (1, 1)), f"{BROKEN}a tensor of 1 axes with 2 strides"),
    "many axes": (declares(0, (1,) * 9, (1,) * 9), f"{BROKEN}a tensor of 9 axes"),
    "no whole numbers": (declares(0, (4.0,), (1,)), ODD),
    "a switch for a number": (declares(True, (3,), (1,)), ODD),
    "no shape": (declares(0, None, (1,)), ODD),
    "hooks": (declares(0, (4,), (1,), False, OrderedDict(a=1)), ODD),
    "marks": (declares(0, (4,), (1,), False, OrderedDict(), {"neg": True}), ODD),
    "a storage larger than the record": (
        declares(0, (4,), (1,), numel=2**40),
        f"{D}: expected 4398046511104 bytes of numbers, as it declares; found 16",
    ),
    "a storage smaller than the record": (
        declares(0, (3,), (1,), numel=3),
        f"{D}: expected 12 bytes of numbers, as it",
    ),
    "a storage of a wrong kind": (declares(0, (4,), (1,), kind="HalfStorage"), f"{D}: expected 8 bytes of numbers"),
    "a record that is not there": (
        declares(0, (4,), (1,), key="x"),
        f"{D}: expected 16 bytes of numbers, as it declares; fo",
    ),
    "a record elsewhere": (
        declares(0, (4,), (1,), key="../data.pkl"),
        f"{D}: expected 16 bytes of numbers, as it declar",
    ),
    "fewer than none": (declares(0, (4,), (1,), numel=-4), f"{BROKEN}('storage', "),
    "a number without end": (declares(0, (4,), (1,), numel=10**600), f"{D}: expected "),
    "a record of another byte order": (
        lambda content, records: records.update(byteorder=b"bigger"),
        f"{BROKEN}numbers of another byte order",
    ),
}


@pytest.mark.parametrize(("change", "said"), LIES.values(), ids=LIES.keys())
def test_a_tensor_that_is_not_as_it_is_declared_is_refused_by_name(
    folder: Path, weights: Weights, unread: None, change: Callable[..., object], said: str
) -> None:
    forge(folder, weights, change)
    assert_refused(folder, f"{folder / NAME}: {said}")


def test_many_tensors_of_the_same_numbers_are_refused(folder: Path, weights: Weights, unread: None) -> None:
    """Each would be a copy: gigabytes of them, from a file of a page."""
    one = Forged(Storage("0", 264 * 16), 0, (264, 16), (16, 1))
    content = {f"layers.{i}.mixer.in_proj.weight": one for i in range(1000)}
    write_archive(folder / NAME, pickled(content), {"data/0": bytes(264 * 16 * 4)})
    assert_refused(folder, f"{folder / NAME}: expected at most two tensors of the same numbers; found 16,896,000 bytes")


# The archive


def compressed(folder: Path, weights: Weights) -> None:
    """A bomb: a page of zip, megabytes of pickle."""
    code = b"\x80\x02" + b"]" * 10_000_000
    write_archive(folder / NAME, code, {}, compression=zipfile.ZIP_DEFLATED)
    assert (folder / NAME).stat().st_size < 20_000


def large_pickle(folder: Path, weights: Weights) -> None:
    write_archive(folder / NAME, b"\x80\x02" + b"]" * 20_000_000, {})


def long_directory(folder: Path, weights: Weights) -> None:
    """The archive says that its directory takes all of a sparse gigabyte."""
    with (folder / NAME).open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(2**30)
        file.seek(0, os.SEEK_END)
        file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, 2**30 - 4, 4, 0))


def changed(change: Callable[[bytes], bytes]) -> Callable[[Path, Weights], None]:
    def write(folder: Path, weights: Weights) -> None:
        torch.save(weights, folder / NAME)
        (folder / NAME).write_bytes(change((folder / NAME).read_bytes()))

    return write


def twice(name: str) -> Callable[[Path, Weights], None]:
    def write(folder: Path, weights: Weights) -> None:
        content, records = honest(weights)
        with pytest.warns(UserWarning, match="Duplicate name") if name == "data.pkl" else soon():
            write_archive(folder / NAME, pickled(content), {name: pickled({}), **records})

    return write


def older(folder: Path, weights: Weights) -> None:
    torch.save(weights, folder / NAME, _use_new_zipfile_serialization=False)


def script(folder: Path, weights: Weights) -> None:
    write_archive(folder / NAME, pickled(honest(weights)[0]), {**honest(weights)[1], "constants.pkl": pickled(())})


OLDER = "expected a zip archive, as torch.save writes it since 1.6; found none. An older pickle"
ARCHIVES: dict[str, tuple[Callable[[Path, Weights], object], str]] = {
    "a bomb": (compressed, f"{BROKEN}'a/data.pkl' compressed"),
    "a pickle of many megabytes": (
        large_pickle,
        f"{BROKEN}a part of more than 16,000,000 bytes that are to be read at once",
    ),
    "a directory of a gigabyte": (long_directory, f"{BROKEN}a part of more than 16,000,000 bytes"),
    "two pickles": (twice("data.pkl"), f"{BROKEN}one name twice in the archive"),
    "two pickles, told apart by their case": (twice("DATA.pkl"), f"{BROKEN}one name twice in the archive"),
    "no pickle": (lambda folder, w: zipfile.ZipFile(folder / NAME, "w").writestr("a/b", b"") and None, ""),
    "an older pickle": (older, OLDER),
    "bytes before it": (changed(lambda content: b"\0" + content), OLDER),
    "cut in the numbers": (changed(lambda content: content[:-3000]), BROKEN),
    "cut at the end": (changed(lambda content: content[:-1]), BROKEN),
    "empty": (changed(lambda content: b""), OLDER),
    "text": (changed(lambda content: b"<html>404</html>"), OLDER),
    "a beginning and nothing else": (changed(lambda content: content[:4]), BROKEN),
}


@pytest.mark.parametrize(("write", "said"), ARCHIVES.values(), ids=ARCHIVES.keys())
def test_an_archive_that_torch_did_not_write_is_refused(
    folder: Path, weights: Weights, unread: None, write: Callable[[Path, Weights], object], said: str
) -> None:
    write(folder, weights)
    with soon():
        assert_refused(folder, f"{folder / NAME}: {said}")


def test_an_older_pickle_is_refused_with_the_way_to_write_it_anew_which_helps(folder: Path, weights: Weights) -> None:
    older(folder, weights)
    said = assert_refused(folder, f"{folder / NAME}: {OLDER}")
    assert said.endswith("torch.save(torch.load(name, weights_only=True), name)")
    torch.save(torch.load(folder / NAME, weights_only=True), folder / NAME)
    assert_same(Mamba2LM.from_pretrained(folder), small_model())


def test_a_torchscript_archive_is_not_run(folder: Path, weights: Weights) -> None:
    script(folder, weights)
    with pytest.warns(UserWarning, match="TorchScript"):
        assert_refused(folder, f"{folder / NAME}: {BROKEN}Cannot use ``weights_only=True`` with TorchScript")
