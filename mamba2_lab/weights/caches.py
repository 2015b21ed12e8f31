"""Caches in safetensors files, beside the config of their model: a memory kept for another day."""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from mamba2_lab.config import Mamba2Config
from mamba2_lab.layers import LayerState
from mamba2_lab.machine.files import replacing
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.model import Mamba2Cache

KIND = "mamba2_lab cache"


def save_cache(cache: Mamba2Cache, path: str | Path, config: Mamba2Config) -> None:
    """Write a cache and the config of its model into a safetensors file, whole.

    Raises:
        ValueError: if the cache has other shapes than the config says.
    """
    tensors = _tensors(cache)
    wrong = _wrong_shape(tensors, config)
    if wrong:
        raise ValueError(f"cache must fit the config: {wrong}")
    metadata = {"kind": KIND, **_fingerprint(config)}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        safetensors.torch.save_file(contiguous, temporary, metadata=metadata)


def load_cache(path: str | Path, config: Mamba2Config) -> Mamba2Cache:
    """Read a cache for a model of this config, on the CPU, bit for bit as it was saved.

    Weights are not compared: a cache means something to the very model that made it, and to no other.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is damaged, or something else, or of another config: it names the field.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"no cache at {str(path)!r}")
    if not Path(path).is_file():  # a pipe would be waited for
        raise CheckpointError(f"{path}: expected a cache, a safetensors file; found no regular file")
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: expected a cache, a safetensors file; found {error}") from error
    if metadata.get("kind") != KIND:
        raise CheckpointError(f"{path}: expected a cache that save_cache wrote; found another safetensors file")
    for name, expected in _fingerprint(config).items():
        if metadata.get(name) != expected:
            raise CheckpointError(
                f"{path}: {name}: expected a cache of a model with {expected}; found {metadata.get(name)}"
            )
    if wrong := _wrong_shape(tensors, config):
        raise CheckpointError(f"{path}: {wrong}")
    layers = [LayerState(tensors[_window(i)], tensors[_state(i)]) for i in range(config.n_layer)]
    return Mamba2Cache(tuple(layers), tensors["tokens_read"])


def _tensors(cache: Mamba2Cache) -> dict[str, Tensor]:
    tensors = {"tokens_read": cache.tokens_read}
    for i, layer in enumerate(cache.layers):
        tensors |= {_window(i): layer.conv_window, _state(i): layer.ssm_state}
    return tensors


def _window(i: int) -> str:
    return f"layers.{i}.conv_window"


def _state(i: int) -> str:
    return f"layers.{i}.ssm_state"


def _fingerprint(config: Mamba2Config) -> dict[str, str]:
    """Every field as text: Python's repr of a float gives back the same float."""
    return {name: repr(value) for name, value in config.to_dict().items()}


def _wrong_shape(tensors: dict[str, Tensor], config: Mamba2Config) -> str | None:
    """What does not fit the config, in words."""
    b = tensors["tokens_read"].shape[0] if "tokens_read" in tensors and tensors["tokens_read"].ndim else 0
    shapes: dict[str, tuple[int, ...]] = {"tokens_read": (b,)}
    for i in range(config.n_layer):
        shapes[_window(i)] = (b, config.d_conv - 1, config.conv_dim)
        shapes[_state(i)] = (b, config.nheads, config.headdim, config.d_state)
    for name in {**shapes, **tensors}:
        expected, found = shapes.get(name), tuple(tensors[name].shape) if name in tensors else None
        if expected != found:
            return f"{name}: expected {expected or 'no such tensor'}; found {found or 'none'}"
    return None
