"""pytorch_model.bin: weights as `torch.save` wrote them, looked at before torch reads them.

The file is a zip archive: a pickle that says which tensors there are, and beside it the numbers of each. A pickle is a
program, and unpickling one runs whatever code it names. Here none is run:

1. The archive must be as torch writes it, each record stored as it is, once, so that nothing in it unfolds.
2. The pickle is read with stand-ins for the few names that a dict of tensors needs, and refused for any other. What it
   declares, dtypes, shapes, strides and bytes, is compared with the records.
3. Only then `torch.load(weights_only=True, mmap=True)` reads it, which allows few names itself. The numbers stay in the
   file, mapped, until they are asked for.

Where it ends: step 3 is code of torch, and had holes before, CVE-2025-32434 (closed in torch 2.6) to run code, and
CVE-2026-24747 (closed in 2.10) to write where no tensor is, both by pickles that step 2 refuses. What weights compute
is another matter, in any file. Safetensors hold nothing but numbers: where both lie side by side, they are read.
"""

from __future__ import annotations

import contextlib
import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mamba2_lab.machine.shapes import Shape
from mamba2_lab.machine.untrusted import CheckpointError, require_own_file, shown

LARGEST_READ = 16_000_000  # bytes of the pickle, or of the archive's directory: those of 2.7b are below 100,000
MOST_AXES = 8

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
}
_INSTRUCTIONS = {  # those of pickles that torch.save writes: of tensors, numbers, texts, and lists and dicts of them
    *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID", "BINPUT", "LONG_BINPUT", "BINGET"),
    *("LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT"),
    *("SETITEM", "SETITEMS"),
}
_OLDER = (
    "expected a zip archive, as torch.save writes it since 1.6; found none. An older pickle says what it holds only "
    "while it is read, and is not read here. Where you trust it, write it anew: "
    "torch.save(torch.load(name, weights_only=True), name)"
)


class _Storage(NamedTuple):
    """Numbers in a record of the archive, "data/KEY"."""

    kind: str
    key: str
    numel: int


class _Tensor(NamedTuple):
    """A tensor, as the pickle declares it: a view of a storage."""

    storage: _Storage
    offset: int
    shape: Shape
    strides: tuple[int, ...]

    @property
    def dtype(self) -> torch.dtype:
        return _DTYPES[self.storage.kind]

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def lies_inside(self) -> bool:
        """Whether it is a view of its storage, and no larger."""
        last = self.offset + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        if min((self.offset, *self.shape, *self.strides)) < 0:
            return False
        return self.numel == 0 or (last < self.storage.numel and self.numel <= self.storage.numel)


def shapes_in(path: Path) -> dict[str, Shape]:
    """The names and shapes of the tensors in a file, of which torch has read nothing yet.

    Raises:
        CheckpointError: if it is damaged, holds anything but floating tensors, or declares more than it holds.
    """
    return {name: tensor.shape for name, tensor in _declared_in(path).items()}


def tensors_in(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors, one after another: mapped, so that their numbers take no memory of their own.

    Raises:
        CheckpointError: as `shapes_in`, and if torch refuses the file.
    """
    declared = _declared_in(path)
    with _telling(path):
        found = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
        for name, tensor in declared.items():
            if (tuple(found[name].shape), found[name].dtype) != (tensor.shape, tensor.dtype):
                raise pickle.UnpicklingError(f"{name} is read as {found[name].dtype} of shape {found[name].shape}")
    for name in declared:
        yield name, found[name].detach()


@contextlib.contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Whatever is raised by a file that is not as it should be is a CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle makes its reader raise errors of a dozen kinds
        raise CheckpointError(f"{path}: expected weights as torch.save writes them; found {error}") from error


def _declared_in(path: Path) -> dict[str, _Tensor]:
    """What the pickle declares, all of it looked at."""
    require_own_file(path)
    with _telling(path):
        code, records = _taken_apart(path)
        tensors = _Look(code).load()
    if not isinstance(tensors, dict):
        raise CheckpointError(f"{path}: expected a dict of tensors; found {type(tensors).__name__.strip('_')}")
    for name, tensor in tensors.items():
        _check(name, tensor, records, str(path))
    total = sum(tensor.numel * tensor.dtype.itemsize for tensor in tensors.values())
    if total > 2 * sum(records.values()):  # a tied head is there twice; no more than that may be
        raise CheckpointError(
            f"{path}: expected at most two tensors of the same numbers; found {total:,} bytes of them"
        )
    return dict(tensors)


def _check(name: object, tensor: object, records: Mapping[str, int], where: str) -> None:
    """CheckpointError unless it is a floating tensor that the file holds."""
    if not isinstance(name, str):
        raise CheckpointError(f"{where}: expected the name of a tensor; found {shown(name)}")
    if not isinstance(tensor, _Tensor):
        raise CheckpointError(f"{where}: {name}: expected a tensor; found {type(tensor).__name__.strip('_')}")
    where, storage = f"{where}: {name}", tensor.storage
    if storage.kind not in _DTYPES:
        raise CheckpointError(f"{where}: expected a {', '.join(_DTYPES)}; found a {storage.kind}")
    size = storage.numel * tensor.dtype.itemsize
    if (found := records.get(f"data/{storage.key}")) != size:
        raise CheckpointError(f"{where}: expected {shown(size)} bytes of numbers, as it declares; found {found}")
    if not tensor.lies_inside:
        view = f"shape {shown(tensor.shape)}, strides {shown(tensor.strides)} and offset {shown(tensor.offset)}"
        raise CheckpointError(f"{where}: expected a view of its {storage.numel:,} numbers; found {view}")


# The archive


class _Sparing(io.FileIO):
    """A file of which little is read at once: how much, the archive itself says."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= LARGEST_READ:
            size = LARGEST_READ + 1
        if len(content := super().read(size)) > LARGEST_READ:
            raise zipfile.BadZipFile(f"a part of more than {LARGEST_READ:,} bytes that are to be read at once")
        return content


def _taken_apart(path: Path) -> tuple[bytes, dict[str, int]]:
    """The pickle, and the size of each record by its name.

    Names must differ by more than their case: torch, which looks them up again, does not tell that apart.
    """
    with _Sparing(path) as file:
        if file.read(4) != b"PK\x03\x04":  # by which torch tells the two formats apart
            raise CheckpointError(f"{path}: {_OLDER}")
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            root = infos[0].filename.partition("/")[0] + "/"
            records = {info.filename.removeprefix(root): info.file_size for info in infos}
            if len({name.lower() for name in records}) < len(infos):
                raise zipfile.BadZipFile("one name twice in the archive")
            for info in infos:
                if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                    raise zipfile.BadZipFile(f"{shown(info.filename)} compressed")
            if records.get("byteorder", 6) != 6 or (
                "byteorder" in records and archive.read(f"{root}byteorder") != b"little"
            ):
                raise zipfile.BadZipFile("numbers of another byte order than little")
            return archive.read(f"{root}data.pkl"), records


# The pickle


class _Kind(NamedTuple):
    """What stands in for a class of storages."""

    name: str


class _Look(pickle.Unpickler):
    """Reads what a pickle declares: all it can name is stood in for, by what does nothing."""

    def __init__(self, code: bytes) -> None:
        for instruction, argument, _ in pickletools.genops(code):
            if instruction.name not in _INSTRUCTIONS:
                raise pickle.UnpicklingError(f"an instruction {instruction.name}, which tensors do not need")
            if instruction.name == "LONG_BINPUT" and int(argument or 0) > len(code):  # room is made for so many
                raise pickle.UnpicklingError(f"{argument:,} things to remember in {len(code):,} bytes")
        super().__init__(io.BytesIO(code))

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _declared
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _declared_parameter
        if module == "torch" and name.endswith("Storage"):
            return _Kind(name)
        raise pickle.UnpicklingError(
            f"{shown(f'{module}.{name}')}, which is not needed for tensors and may run code; nothing was run"
        )

    def persistent_load(self, saved: Any) -> _Storage:
        match saved:
            case ("storage", _Kind(kind), str(key), str(), int(numel)) if numel >= 0:
                return _Storage(kind, key, numel)
        raise pickle.UnpicklingError(f"{shown(saved)} where a storage is")


def _declared(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, metadata: Any = None
) -> _Tensor:
    """Stands in for `torch._utils._rebuild_tensor_v2`."""
    sizes = (shape, strides)
    plain = isinstance(storage, _Storage) and type(offset) is int and type(grad) is bool and not hooks and not metadata
    if not plain or not all(type(size) is tuple and all(type(n) is int for n in size) for size in sizes):
        raise pickle.UnpicklingError("a tensor with more to it than a storage, a shape and strides")
    if not len(shape) == len(strides) <= MOST_AXES:
        raise pickle.UnpicklingError(f"a tensor of {len(shape)} axes with {len(strides)} strides")
    return _Tensor(storage, offset, shape, strides)


def _declared_parameter(tensor: Any, grad: Any, hooks: Any) -> Any:
    """Stands in for `torch._utils._rebuild_parameter`."""
    return tensor
