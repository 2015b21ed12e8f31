"""A matrix times a few rows on a CPU, by the loops that numba compiles: see `mamba2_lab.fast.loops`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mamba2_lab.layers.linear import linear
from mamba2_lab.layers.stored import GROUP, multiply_stored
from mamba2_lab.machine import threads, transforms
from mamba2_lab.machine.helpers import CAN_SLEEP, helpers

HAS_NUMBA = importlib.util.find_spec("numba") is not None  # it comes with the package, but not to every processor
MOST_ROWS = 4  # for more of them a library shares the arithmetic better than these loops
LEAST_TO_SHARE = 2**19  # numbers of the matrices: to read fewer takes less time than to call a second thread

Matrix = tuple[int, int, int, int, int]  # kind and address of the numbers, address of the scales, a vector: the bias
Vector = tuple[int, int]  # kind and address
KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2, torch.uint8: 3}  # as in `loops`
NOWHERE = (0, 0)
PLAIN = {Tensor, torch.nn.Parameter}


def nobody_asks(tensor: Tensor, *others: Tensor | None) -> bool:
    """Whether it lies on a CPU, nobody asks for derivatives of what is made of these, and nothing looks on."""
    return (
        not torch.compiler.is_compiling()
        and HAS_NUMBA
        and tensor.device.type == "cpu"
        and not asks_for_gradients((tensor, *others))
        and type(tensor) in PLAIN  # and not one that has its own way to be computed with
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._len_torch_dispatch_stack()
        and not transforms.at_work(tensor, *others)
    )


def asks_for_gradients(tensors: Iterable[Tensor | None]) -> bool:
    """Whether what is made of these would have a backward pass."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def by_loops(rows: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether it is a few rows (...,columns) of the kind, times a plain matrix."""
    few = 0 < rows.numel() <= MOST_ROWS * rows.shape[-1]
    return few and nobody_asks(rows, weight, bias) and type(weight) in PLAIN


def readable(*tensors: Tensor | None) -> bool:
    """Whether the loops can read them where they lie."""
    return all(
        tensor is None or (tensor.dtype in KINDS and tensor.is_contiguous() and tensor.device.type == "cpu")
        for tensor in tensors
    )


def fits(numbers: Tensor, scales: Tensor | None, bias: Tensor | None, *, rows: int, columns: int) -> bool:
    """Whether what is kept of a matrix is that of so many rows and columns: the loops know addresses, and no ends."""
    groups = -(-columns // GROUP)
    if numbers.dtype == torch.uint8:
        shapes: tuple[tuple[int, ...], ...] = ((rows, groups * GROUP // 2), (rows, groups, 2))
    else:
        shapes = ((rows, columns), (rows,))
    scaled = scales is None if numbers.is_floating_point() else scales is not None and scales.shape == shapes[1]
    return numbers.shape == shapes[0] and scaled and (bias is None or bias.shape == (rows,))


def vector(numbers: Tensor | None) -> Vector:
    """Where a vector lies, if there is one."""
    return NOWHERE if numbers is None else (KINDS[numbers.dtype], numbers.data_ptr())


def matrix(numbers: Tensor, scales: Tensor | None, bias: Tensor | None) -> Matrix:
    """Where a matrix lies, with its scales, if it is stored in 8 or 4 bits, and its bias."""
    return KINDS[numbers.dtype], numbers.data_ptr(), 0 if scales is None else scales.data_ptr(), *vector(bias)


def together(numbers: int, loop: Callable[..., None], *arguments: Any) -> None:
    """Go through a loop that reads so many numbers, with as many threads as torch may take, if they are many."""
    if CAN_SLEEP and numbers >= LEAST_TO_SHARE and (others := threads.most() - 1):
        helpers.ask(others, partial(loop, *arguments))
    loop(*arguments)


def among_operations(numbers: int, loop: Any, *arguments: Any) -> None:
    """`together`, for a loop with operations of torch before and after it: by the threads that torch keeps ready.

    Its last argument, two counters of chunks that are taken and of chunks that are done, is added here. What has yet to
    be compiled is not for threads of torch: it may raise something.
    """
    arguments = (*arguments, np.zeros(2, np.int64))
    for_torch = numbers >= LEAST_TO_SHARE and loop.signatures
    if not (for_torch and threads.torch_does(partial(loop, *arguments))):
        together(numbers, loop, *arguments)


def _multiply(input: Tensor, at: Matrix, rows: int) -> Tensor:
    from mamba2_lab.fast import loops  # which imports numba, when a token is written first

    x = input.reshape(-1, input.shape[-1]).float().contiguous().numpy()
    y, counters = np.empty((len(x), rows), np.float32), np.zeros(2, np.int64)
    of_norm = np.array(NOWHERE), 1, np.float32(0)
    together(rows * x.shape[1], loops.multiply, np.array(at), *of_norm, x, y, 0, counters)
    return torch.from_numpy(y).view(*input.shape[:-1], rows).to(input.dtype)


def _of_floats(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    if not (by_loops(input, weight, bias) and input.dtype == weight.dtype and weight.is_floating_point()):
        return False  # or torch will say what is wrong, as below
    return readable(weight, bias) and fits(weight, None, bias, rows=len(weight), columns=input.shape[-1])


@linear.way("loops", serves=_of_floats, within=2e-6)
def _(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _multiply(input, matrix(weight, None, bias), weight.shape[0])


def _of_stored(input: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None) -> bool:
    if not (by_loops(input, numbers, bias) and input.is_floating_point() and scales.dtype == torch.float32):
        return False
    whole = fits(numbers, scales, bias, rows=len(numbers), columns=input.shape[-1])
    return whole and readable(numbers, scales, bias)


@multiply_stored.way("loops", serves=_of_stored, within=2e-6)
def _(input: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    return _multiply(input, matrix(numbers, scales, bias), numbers.shape[0])
