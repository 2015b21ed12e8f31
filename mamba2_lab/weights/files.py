"""Weights files, one or several behind an index: what they say that they hold is checked before they are read.

A file is a safetensors file, or else one of torch.save (pickled.py); an index names files of its own kind alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from torch import Tensor

from mamba2_lab.machine.shapes import Shape as Shape
from mamba2_lab.machine.untrusted import CheckpointError, read_json, require_own_file, shown
from mamba2_lab.weights import pickled

WEIGHTS_NAME = "model.safetensors"
PICKLED_NAME = "pytorch_model.bin"
INDEX_ENDING = ".index.json"
LARGEST_HEADER = 4_000_000  # bytes of a safetensors file that say what it holds: of 2.7b they are 60,000
MOST_FILES = 1000  # that an index may name
WHOLE_DTYPES = ("I8", "U8")
FLOAT_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class File(NamedTuple):
    """What a weights file says that it holds."""

    path: Path
    shapes: dict[str, Shape]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a weights file, or of the files that an index names.

    Raises:
        CheckpointError: if a file is damaged or of another format, or a tensor is not floating point.
    """
    return dict(tensors_in(files_at(path)))


def tensors_in(files: Iterable[File]) -> Iterator[tuple[str, Tensor]]:
    """All tensors of these files, one after another. They are mapped: none takes memory before its numbers are used."""
    for file in files:
        if _is_pickled(file.path.name):
            yield from pickled.tensors_in(file.path)
        else:
            with _opened(file.path) as opened:
                yield from ((name, opened.get_tensor(name)) for name in file.shapes)


def files_at(path: Path) -> list[File]:
    """The weights files at `path`, a file or an index, with the shapes that they declare; no tensor is read."""
    if not path.name.endswith(INDEX_ENDING):
        return [File(path, _shapes_in(path))]
    promised = _promises_of(path)
    files = [File(path.parent / file, _shapes_in(path.parent / file)) for file in sorted(promised)]
    for file_path, shapes in files:
        for name in sorted(promised[file_path.name] ^ shapes.keys()):
            expected, found = ("none", "one") if name in shapes else ("a tensor", "none")
            raise CheckpointError(f"{file_path}: {name}: expected {expected}, as {path.name} says; found {found}")
    return files


def _is_pickled(name: str) -> bool:
    return name.endswith(".bin")


def _promises_of(index: Path) -> dict[str, set[str]]:
    """The names of the tensors in each of the files that an index names."""
    file_of = read_json(index).get("weight_map")
    if not isinstance(file_of, dict):
        raise CheckpointError(f"{index}: weight_map: expected the file of each tensor; found {shown(file_of)}")
    promised: dict[str, set[str]] = {}
    ending = ".bin" if _is_pickled(index.name.removesuffix(INDEX_ENDING)) else ".safetensors"
    for name, file in file_of.items():
        if not _is_name_of_weights(file, ending):
            raise CheckpointError(
                f"{index}: {name}: expected the name of a {ending} file in this folder; found {shown(file)}"
            )
        promised.setdefault(file, set()).add(name)
    if len(promised) > MOST_FILES:
        raise CheckpointError(f"{index}: weight_map: expected at most {MOST_FILES} files; found {len(promised)}")
    return promised


def _is_name_of_weights(file: object, ending: str) -> bool:
    """Whether it names such a file beside the index: no path, by the rules of any system."""
    return isinstance(file, str) and file.endswith(ending) and set(file).isdisjoint("/\\:")


def _shapes_in(path: Path) -> dict[str, Shape]:
    if _is_pickled(path.name):
        return pickled.shapes_in(path)
    with _opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}
        for name, part in slices.items():
            allowed = WHOLE_DTYPES if name.endswith(".numbers") else FLOAT_DTYPES  # see layers/stored.py
            if (dtype := part.get_dtype()) not in allowed:
                raise CheckpointError(f"{path}: {name}: expected a dtype of {', '.join(allowed)}; found {dtype}")
        return {name: tuple(part.get_shape()) for name, part in slices.items()}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file, or the error that says it is none."""
    require_own_file(path)
    try:
        _require_short_header(path)
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (safetensors.SafetensorError, OSError, MemoryError, RuntimeError) as error:  # the last: torch cannot map it
        raise CheckpointError(
            f"{path}: expected a whole safetensors file; found one that cannot be read: {error}"
        ) from error


def _require_short_header(path: Path) -> None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if LARGEST_HEADER < length < path.stat().st_size:  # if it is longer than the file, safetensors says so
        raise CheckpointError(f"{path}: expected a header of at most {LARGEST_HEADER:,} bytes; found {length:,}")
