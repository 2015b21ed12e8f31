"""Caches in files: a memory put away, for another day and the same model. Safetensors, and the config of its model.

Which tensors there are is asked of the model that the config describes, so any layer's state can be kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mamba2_lab.config import StackFields
from mamba2_lab.layers.growing import with_tokens
from mamba2_lab.machine.files import replacing
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.model import LanguageModel, Mamba2Cache
from mamba2_lab.weights.files import FLOAT_DTYPES

KIND = "mamba2_lab cache"
DTYPES = {**FLOAT_DTYPES, "BOOL": torch.bool, "I64": torch.int64, "U8": torch.uint8}

Tensors = Mapping[str, Tensor]
Metadata = Mapping[str, str]


def save_cache(cache: Mamba2Cache, path: str | Path, config: StackFields) -> None:
    """Write a cache and the config of its model into a safetensors file, whole.

    >>> _, cache = model.prefill(torch.tensor([tokenizer.encode("def area(radius):")]))
    >>> save_cache(cache, "memory.safetensors", model.config)
    >>> list(stream(model, tokenizer.encode("\\n"), cache=load_cache("memory.safetensors", model.config)))

    Raises:
        ValueError: if the cache has other shapes than the config says.
    """
    tensors = tensors_of(cache)
    if wrong := wrong_in(tensors, expected_in_cache(config, cache.batch_size, tensors)):
        raise ValueError(f"cache must fit the config: {wrong}")
    write(path, tensors, {"kind": KIND, **fingerprint(config)})


def load_cache(path: str | Path, config: StackFields) -> Mamba2Cache:
    """Read a cache for a model of this config, on the CPU, bit for bit as it was saved.

    Weights are not compared: a cache means something to the very model that made it, and to no other.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is damaged, or something else, or of another config: it names the field.
    """

    def check(header: Tensors, metadata: Metadata) -> None:
        if metadata.get("kind") != KIND:
            raise CheckpointError(f"{path}: expected a cache that save_cache wrote; found another safetensors file")
        require_config(path, metadata, config, "a cache")
        if wrong := wrong_in(header, expected_in_cache(config, _batch_size(header), header)):
            raise CheckpointError(f"{path}: {wrong}")

    tensors, _ = read(Path(path), "cache", check)
    return cache_of(tensors, config)


# What sessions, which hold a cache and more, do alike.


def write(path: str | Path, tensors: Tensors, metadata: Metadata) -> None:
    """Write tensors and what is said of them into a safetensors file, whole."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        safetensors.torch.save_file(contiguous, temporary, metadata=dict(metadata))


def read(path: Path, what: str, check: Callable[[Tensors, Metadata], None]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and what is said of them.

    Args:
        what: the file should hold, as errors call it.
        check: sees both before any tensor is read: shapes and dtypes, on the device "meta". It raises what is wrong.
    """
    with _opened(path, what) as file:
        names, metadata = list(file.keys()), file.metadata() or {}
        check({name: _promised(path, file, name) for name in names}, metadata)
        # Copied: else they would be the file itself, as the system maps it, and change or vanish with it.
        return {name: file.get_tensor(name).clone() for name in names}, metadata


def read_metadata(path: Path, what: str) -> dict[str, str]:
    """What is said of the tensors of a file, as `read` gives it; none of them is read."""
    with _opened(path, what) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _opened(path: Path, what: str) -> Iterator[Any]:
    if not path.exists():
        raise FileNotFoundError(f"no {what} at {str(path)!r}")
    if not path.is_file():  # a pipe would be waited for
        raise CheckpointError(f"{path}: expected a {what}, a safetensors file; found no regular file")
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (safetensors.SafetensorError, OSError, RuntimeError) as error:  # RuntimeError: torch cannot map the file
        raise CheckpointError(f"{path}: expected a {what}, a safetensors file; found {error}") from error


def fingerprint(config: StackFields) -> dict[str, str]:
    """Every field as text: Python's repr of a float gives back the same float."""
    return {name: repr(value) for name, value in config.to_dict().items()}


def require_config(path: str | Path, metadata: Metadata, config: StackFields, what: str) -> None:
    """CheckpointError, naming the field, unless the fingerprint in the metadata is that of the config."""
    for name, expected in fingerprint(config).items():
        if metadata.get(name) != expected:
            raise CheckpointError(
                f"{path}: {name}: expected {what} of a model with {expected}; found {metadata.get(name)}"
            )


def tensors_of(cache: Mamba2Cache) -> dict[str, Tensor]:
    """All that a cache holds, by the names that it has in files."""
    tensors = {"tokens_read": cache.tokens_read}
    for i, layer in enumerate(cache.layers):
        tensors |= {_name(i, name): tensor for name, tensor in layer.tensors().items()}
    return tensors


def cache_of(tensors: Tensors, config: StackFields) -> Mamba2Cache:
    """The cache that holds these tensors, whose shapes were found to be right."""
    layers = [
        dataclasses.replace(state, **{name: tensors[_name(i, name)] for name in state.tensors()})
        for i, state in enumerate(_empty_cache(config, 1).layers)
    ]
    return Mamba2Cache(tuple(layers), tensors["tokens_read"])


def expected_in_cache(config: StackFields, batch_size: int, found: Tensors) -> dict[str, Tensor]:
    """What a cache must hold, on "meta", by name; what grows has as many tokens as each layer is found to have kept."""
    empty = _empty_cache(config, batch_size)
    expected = {"tokens_read": empty.tokens_read}
    for i, state in enumerate(empty.layers):
        own = {name: tuple(tensor.shape) for name, tensor in state.tensors().items()}
        kept = {name: found[_name(i, name)] for name in own if _name(i, name) in found}
        for name, shape in with_tokens(own, state.grows, kept).items():
            expected[_name(i, name)] = state.tensors()[name].new_empty(shape)
    return expected


def wrong_in(found: Tensors, expected: Tensors) -> str | None:
    """What has another shape than expected, or holds another kind of numbers, in words. Any float will do for one."""
    for name in {**expected, **found}:
        shapes = [tuple(tensors[name].shape) if name in tensors else None for tensors in (expected, found)]
        if shapes[0] != shapes[1]:
            return f"{name}: expected {shapes[0] or 'no such tensor'}; found {shapes[1] or 'none'}"
    for name, tensor in found.items():
        wanted = expected[name]
        if not (wanted.dtype == tensor.dtype or (wanted.is_floating_point() and tensor.is_floating_point())):
            return f"{name}: expected {wanted.dtype}; found {tensor.dtype}"
    return None


def _promised(path: Path, file: Any, name: str) -> Tensor:
    """What a file says of a tensor, on "meta"."""
    promised = file.get_slice(name)
    if (dtype := DTYPES.get(promised.get_dtype())) is None:
        raise CheckpointError(f"{path}: {name}: expected one of {', '.join(DTYPES)}; found {promised.get_dtype()}")
    return torch.empty(promised.get_shape(), dtype=dtype, device="meta")


def _name(layer: int, name: str) -> str:
    return f"layers.{layer}.{name}"


def _empty_cache(config: StackFields, batch_size: int) -> Mamba2Cache:
    """One of the right shapes, without numbers."""
    return LanguageModel(config, device="meta").new_cache(batch_size)


def _batch_size(tensors: Tensors) -> int:
    """What the file says of it, if anything."""
    tokens_read = tensors.get("tokens_read")
    return tokens_read.shape[0] if tokens_read is not None and tokens_read.ndim else 0
