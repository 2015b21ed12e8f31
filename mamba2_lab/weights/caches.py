"""Caches in files: a memory put away, for another day and the same model. Safetensors, and the config of its model.

Which tensors there are is asked of the model that the config describes, so any layer's state can be kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from mamba2_lab.config import StackFields
from mamba2_lab.layers.growing import with_tokens
from mamba2_lab.machine.files import replacing
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.model import LanguageModel, Mamba2Cache

KIND = "mamba2_lab cache"


def save_cache(cache: Mamba2Cache, path: str | Path, config: StackFields) -> None:
    """Write a cache and the config of its model into a safetensors file, whole.

    >>> _, cache = model.prefill(torch.tensor([tokenizer.encode("def area(radius):")]))
    >>> save_cache(cache, "memory.safetensors", model.config)
    >>> list(stream(model, tokenizer.encode("\\n"), cache=load_cache("memory.safetensors", model.config)))

    Raises:
        ValueError: if the cache has other shapes than the config says.
    """
    tensors = _tensors(cache)
    if wrong := _wrong_shape(tensors, _empty_cache(config, cache.batch_size)):
        raise ValueError(f"cache must fit the config: {wrong}")
    metadata = {"kind": KIND, **_fingerprint(config)}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        safetensors.torch.save_file(contiguous, temporary, metadata=metadata)


def load_cache(path: str | Path, config: StackFields) -> Mamba2Cache:
    """Read a cache for a model of this config, on the CPU, bit for bit as it was saved.

    Weights are not compared: a cache means something to the very model that made it, and to no other.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is damaged, or something else, or of another config: it names the field.
    """
    tensors, metadata = _read(Path(path))
    if metadata.get("kind") != KIND:
        raise CheckpointError(f"{path}: expected a cache that save_cache wrote; found another safetensors file")
    for name, expected in _fingerprint(config).items():
        if metadata.get(name) != expected:
            raise CheckpointError(
                f"{path}: {name}: expected a cache of a model with {expected}; found {metadata.get(name)}"
            )
    empty = _empty_cache(config, _batch_size(tensors))
    if wrong := _wrong_shape(tensors, empty):
        raise CheckpointError(f"{path}: {wrong}")
    layers = [
        dataclasses.replace(state, **{name: tensors[_name(i, name)] for name in state.tensors()})
        for i, state in enumerate(empty.layers)
    ]
    return Mamba2Cache(tuple(layers), tensors["tokens_read"])


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and what is said of them."""
    if not path.exists():
        raise FileNotFoundError(f"no cache at {str(path)!r}")
    if not path.is_file():  # a pipe would be waited for
        raise CheckpointError(f"{path}: expected a cache, a safetensors file; found no regular file")
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            # Copied: else they would be the file itself, as the system maps it, and change or vanish with it.
            return {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: expected a cache, a safetensors file; found {error}") from error


def _tensors(cache: Mamba2Cache) -> dict[str, Tensor]:
    tensors = {"tokens_read": cache.tokens_read}
    for i, layer in enumerate(cache.layers):
        tensors |= {_name(i, name): tensor for name, tensor in layer.tensors().items()}
    return tensors


def _name(layer: int, name: str) -> str:
    return f"layers.{layer}.{name}"


def _empty_cache(config: StackFields, batch_size: int) -> Mamba2Cache:
    """One of the right shapes, without numbers."""
    return LanguageModel(config, device="meta").new_cache(batch_size)


def _fingerprint(config: StackFields) -> dict[str, str]:
    """Every field as text: Python's repr of a float gives back the same float."""
    return {name: repr(value) for name, value in config.to_dict().items()}


def _batch_size(tensors: Mapping[str, Tensor]) -> int:
    """What the file says of it, if anything."""
    tokens_read = tensors.get("tokens_read")
    return tokens_read.shape[0] if tokens_read is not None and tokens_read.ndim else 0


def _wrong_shape(tensors: Mapping[str, Tensor], empty: Mamba2Cache) -> str | None:
    """What has another shape than in the empty cache, in words. What grows may have any number of tokens."""
    shapes = _shapes_of_so_many_tokens(empty, tensors)
    for name in {**shapes, **tensors}:
        expected, found = shapes.get(name), tuple(tensors[name].shape) if name in tensors else None
        if expected != found:
            return f"{name}: expected {expected or 'no such tensor'}; found {found or 'none'}"
    return None


def _shapes_of_so_many_tokens(empty: Mamba2Cache, found: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes of the empty cache by name, after as many tokens as each layer is found to have kept."""
    shapes = {"tokens_read": tuple(empty.tokens_read.shape)}
    for i, state in enumerate(empty.layers):
        own = {name: tuple(tensor.shape) for name, tensor in state.tensors().items()}
        kept = {name: found[_name(i, name)] for name in own if _name(i, name) in found}
        shapes |= {_name(i, name): shape for name, shape in with_tokens(own, state.grows, kept).items()}
    return shapes
