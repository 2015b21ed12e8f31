"""Take an answer in another form: a list where a tensor is expected, an array of numpy, float64 for float32.

What is taught is how to compute something, not how to keep it. So a result is brought into the form that the reference
gives it, where that changes none of its numbers; what cannot be brought is left as it is, and told apart later.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

FULL = (torch.float32, torch.float64)  # in 16 bits digits would be missing


def brought(got: Any, like: Any) -> Any:
    """`got` in the form of `like`; the very same object if it has it already, or if it cannot be brought into it."""
    if isinstance(like, Tensor):
        return _as_tensor(got, like)
    if isinstance(like, tuple | list):
        return _as_sequence(got, like)
    if isinstance(like, dict) and isinstance(got, dict) and got.keys() == like.keys():
        parts = {key: brought(got[key], like[key]) for key in got}
        return parts if any(parts[key] is not got[key] for key in got) else got
    if isinstance(like, bool | int | float | str):
        return _as_plain(got, like)
    return got


def in_the_form_of(reference: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its results in the form of those of the reference, which is asked each time."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        got = function(*args, **kwargs)
        return brought(got, reference(*args, **kwargs))

    return call


def _as_tensor(got: Any, like: Tensor) -> Any:
    tensor = got if isinstance(got, Tensor) else _tensor_of(got)
    if tensor is None or (isinstance(got, tuple) and tensor.shape != like.shape):
        return got  # two results where one is expected are no tensor
    return tensor.to(like.dtype) if _without_loss(tensor, like.dtype) else tensor


def _tensor_of(got: Any) -> Tensor | None:
    """Numbers, arrays, and lists of both, as a tensor; None for anything else."""
    if isinstance(got, tuple | list):
        parts = [part if isinstance(part, Tensor) else _tensor_of(part) for part in got]
        tensors = [part for part in parts if part is not None]
        if len(tensors) < len(parts) or len({part.shape for part in tensors}) > 1:
            return None
        return torch.stack(tensors) if tensors else torch.zeros(0, dtype=torch.float64)
    if isinstance(got, bool | int | float | np.ndarray | np.generic) and np.asarray(got).dtype.kind in "biuf":
        wide = np.asarray(got, dtype=np.float64) if isinstance(got, float) else np.array(got)
        return torch.from_numpy(np.ascontiguousarray(wide).reshape(wide.shape))
    return None


def _without_loss(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether another dtype leaves all numbers as they are, up to the digits of float32."""
    if tensor.dtype == dtype or tensor.is_complex() or dtype.is_complex or torch.bool in (tensor.dtype, dtype):
        return False
    if dtype.is_floating_point:
        return dtype in FULL and (tensor.dtype in FULL or not tensor.is_floating_point())
    return not tensor.is_floating_point() or bool((tensor == tensor.round()).all())


def _as_sequence(got: Any, like: tuple[Any, ...] | list[Any]) -> Any:
    if isinstance(got, np.ndarray | Tensor) and got.ndim and not any(isinstance(part, Tensor) for part in like):
        return _as_sequence(got.tolist(), like)
    if not isinstance(got, tuple | list):
        return got
    parts = [brought(*pair) for pair in zip(got, like, strict=False)] + list(got[len(like) :])
    if isinstance(got, list) == isinstance(like, list) and all(map(lambda a, b: a is b, parts, got)):
        return got
    return parts if isinstance(like, list) else tuple(parts)


def _as_plain(got: Any, like: bool | int | float | str) -> Any:
    """One number, truth value or text as Python has it."""
    if type(got) is type(like):
        return got
    if isinstance(got, Tensor | np.ndarray) and got.ndim == 0 or isinstance(got, np.generic):
        got = got.item()
    whole = isinstance(got, float) and got.is_integer() and type(like) is int
    return int(got) if whole else got
