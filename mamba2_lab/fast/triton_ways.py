"""What ways that run kernels in Triton have in common."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from mamba2_lab.fast.own_backward import not_transformed

HAS_TRITON = importlib.util.find_spec("triton") is not None
SMALLEST_SIDE = 16  # of a matrix that Triton multiplies


def serves(*arguments: Any) -> bool:
    """Whether there is Triton for the GPU on which these arguments lie, and torch transforms none of them."""
    return HAS_TRITON and arguments[0].is_cuda and not_transformed(*arguments)


def power_of_two(size: int) -> int:
    """The smallest that holds so many, and that Triton multiplies."""
    return max(SMALLEST_SIDE, 1 << (size - 1).bit_length())


def launching(tensor: Tensor) -> AbstractContextManager[object]:
    """Where a kernel is to be launched: on the GPU of this tensor. A compiler sees to that itself."""
    if torch.compiler.is_compiling() or not tensor.is_cuda:
        return nullcontext()
    return torch.cuda.device(tensor.device)
