"""Files that look like those of torch.save, with anything in them: the pickle, and the records of the archive."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Storage(NamedTuple):
    """What a pickle says of a storage, true or not."""

    key: str
    numel: int
    kind: str = "FloatStorage"
    location: str = "cpu"


class Forged:
    """What a pickle says of a tensor, true or not."""

    def __init__(self, storage: Storage, offset: Any, shape: Any, strides: Any, grad: Any = False, *more: Any) -> None:
        self.arguments = (storage, offset, shape, strides, grad, *(more or (OrderedDict(),)))

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, self.arguments


class Called:
    """Anything that a pickle calls, with its arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def pickled(content: object) -> bytes:
    """As torch.save pickles: protocol 2, storages by their ids."""
    buffer = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            if isinstance(obj, Storage):
                return ("storage", getattr(torch, obj.kind), obj.key, obj.location, obj.numel)
            return None

    Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue()


def honest(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Tensors of float32 as a forger would write them if they were honest: what to pickle, and the records."""
    content: dict[str, Any] = {}
    records: dict[str, bytes] = {"version": b"3\n", "byteorder": b"little"}
    for i, (name, tensor) in enumerate(tensors.items()):
        assert tensor.dtype == torch.float32
        content[name] = Forged(Storage(str(i), tensor.numel()), 0, tuple(tensor.shape), tensor.stride())
        records[f"data/{i}"] = tensor.numpy().tobytes()
    return content, records


def write_archive(
    path: Path, code: bytes, records: Mapping[str, bytes], *, compression: int = zipfile.ZIP_STORED, root: str = "a"
) -> None:
    """The archive, by hand."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", code)
        for name, content in records.items():
            archive.writestr(f"{root}/{name}", content)
