"""Weights in several files behind an index, which may name files of its folder and no others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
from support.saved_models import WEIGHTS, assert_same, read
from support.small_models import small_model
from support.strange_files import needs_posix, of_strange_files, soon

from mamba2_lab import Mamba2LM
from mamba2_lab.machine.untrusted import CheckpointError


@pytest.fixture
def sharded(tmp_path) -> Path:
    """A folder with an index of two shards, and beside it one more that would fit as well."""
    folder = tmp_path / "model"
    small_model().save_pretrained(folder)
    weights = read(folder)
    (folder / WEIGHTS).unlink()
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        safetensors.torch.save_file({name: weights[name] for name in part}, folder / file)
    shutil.copy(folder / "a.safetensors", tmp_path / "a.safetensors")
    write_index(folder, {name: file for file, part in parts.items() for name in part})
    return folder


def write_index(folder: Path, file_of: object) -> None:
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": file_of}))


def read_index(folder: Path) -> dict[str, str]:
    return json.loads((folder / f"{WEIGHTS}.index.json").read_text())["weight_map"]


def test_a_sharded_folder_is_read(sharded):
    assert_same(Mamba2LM.from_pretrained(sharded), small_model())


NO_NAMES = [
    "../a.safetensors",
    "/etc/passwd",
    "sub/a.safetensors",
    "sub\\a.safetensors",
    "C:a.safetensors",
    "",
    ".",
    "..",
    f"{WEIGHTS}.index.json",
    "config.json",
    None,
    3,
    True,
    ["a.safetensors"],
    {"a": 1},
]


@pytest.mark.parametrize("named", [*NO_NAMES, "the folder above"], ids=repr)
def test_an_index_may_name_files_of_its_folder_only(sharded, unbuilt, named):
    named = str(sharded.parent / "a.safetensors") if named == "the folder above" else named
    write_index(sharded, {**read_index(sharded), "embedding.weight": named})
    with pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(sharded)
    expected = "embedding.weight: expected the name of a .safetensors file in this folder; found "
    assert str(caught.value).startswith(f"{sharded / WEIGHTS}.index.json: {expected}")


@pytest.mark.parametrize("named", ["no\0such.safetensors", "\ud800.safetensors", "x" * 500 + ".safetensors"], ids=ascii)
def test_a_name_that_no_file_can_have_is_refused(sharded, unbuilt, named):
    write_index(sharded, {**read_index(sharded), "embedding.weight": named})
    with pytest.raises(CheckpointError, match="expected a file; found none"):
        Mamba2LM.from_pretrained(sharded)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"layers.0.mixer.D": "b.safetensors"},
            r"a.safetensors: layers.0.mixer.D: expected none, as .* says; found one",
        ),
        (
            {"layers.9.mixer.D": "a.safetensors"},
            r"a.safetensors: layers.9.mixer.D: expected a tensor, as .*; found none",
        ),
        ({f"{i}": f"{i}.safetensors" for i in range(1000)}, r"weight_map: expected at most 1000 files; found 1002"),
    ],
    ids=["in another file", "in no file", "a thousand files"],
)
def test_an_index_and_its_files_must_agree(sharded, unbuilt, change, message):
    assert read_index(sharded)["layers.0.mixer.D"] == "a.safetensors"
    write_index(sharded, {**read_index(sharded), **change})
    with pytest.raises(CheckpointError, match=message):
        Mamba2LM.from_pretrained(sharded)


def test_the_same_tensor_in_two_files_is_refused(sharded, unbuilt):
    shutil.copy(sharded / "a.safetensors", sharded / "c.safetensors")
    write_index(sharded, {**read_index(sharded), "embedding.weight": "c.safetensors"})
    with pytest.raises(CheckpointError, match=r"safetensors: .*: expected none, as .* says; found one"):
        Mamba2LM.from_pretrained(sharded)


@needs_posix
@of_strange_files
@pytest.mark.parametrize("name", ["config.json", f"{WEIGHTS}.index.json", "a.safetensors"])
def test_what_is_no_file_of_the_folder_is_refused_in_its_place(sharded, unbuilt, name, put, said):
    put(sharded / name)
    with soon(), pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(sharded)
    assert str(caught.value).startswith(f"{sharded / name}: {said}")
