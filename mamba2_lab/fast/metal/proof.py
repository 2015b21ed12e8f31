"""A kernel is taken on mps only after it has proved itself there: it compiles, gives the CPU's numbers, and is sooner.

It is tried when it would be taken first, on drawn numbers in the shapes that it was asked for, once in a process for
each dtype and each set of sizes that it is compiled for. What comes of it is a `machine.verdicts.Verdict`, which
`mamba2-lab doctor` shows. A kernel that fails later, while it is used, is left aside from then on. Either is said once.

Checked by emulation on Linux; not run on Apple hardware.
"""

from __future__ import annotations

import copy
import functools
import math
import os
import time
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mamba2_lab.fast.metal import shaders
from mamba2_lab.layers.mixer import State
from mamba2_lab.machine import transforms, verdicts
from mamba2_lab.machine.verdicts import Verdict
from mamba2_lab.operation import Operation, plainly

Function = Callable[..., Any]
ROUNDS, CALLS = 3, 20  # the best of so many rounds of so many calls is what a call takes
_aside = False  # whether one is being tried, beside what else there is


def by_metal(
    operation: Operation[..., Any], *, serves: Function, key: Function, drawn: Function, within: float
) -> Callable[[Function], Function]:
    """Register the function below as a way of an operation on mps, where it has proved itself.

    Args:
        serves: whether it can compute this call at all.
        key: what of a call the kernel is compiled for, dtypes and sizes; hashable.
        drawn: of a call's arguments, others on the CPU to try it with: the same shapes, or shorter, and drawn numbers.
        within: how far float32 may be from the definition in float64. Of 16 bits their rounding is allowed.
    """

    def register(compute: Function) -> Function:
        def is_served(*args: Any) -> bool:
            return for_reading_on_mps(*tensors(args)) and serves(*args) and _proven(*args)

        def named(*args: Any) -> Hashable:
            return (operation.plain.__name__, key(*args), os.environ.get(shaders.VARIABLE))

        def _proven(*args: Any) -> bool:
            verdict = verdicts.find(named(*args))
            if verdict is not None:
                return verdict.is_taken
            try:
                # Meanwhile what else there is, is used. Of the arguments only shapes matter, wherever they were made.
                with _left_aside(), torch.inference_mode(False), torch.no_grad():
                    is_taken, reason = _tried(operation, compute, drawn(*args), device_of(args), within)
            except Exception as fault:
                is_taken, reason = False, _failed(operation, fault)
            keep(args, is_taken, reason)
            return is_taken

        def keep(args: tuple[Any, ...], is_taken: bool, reason: str) -> None:
            verdicts.keep(named(*args), Verdict(operation.plain.__name__, _described(args), is_taken, reason))

        @functools.wraps(compute)
        def guarded(*args: Any) -> Any:
            try:
                return compute(*args)
            except Exception as fault:
                keep(args, False, _failed(operation, fault))
                return operation(*args)

        operation.way("metal", serves=is_served, within=within)(guarded)
        return guarded

    return register


def for_reading_on_mps(*given: Tensor) -> bool:
    """Whether kernels may be taken at all in a call with these: on mps, without gradients, transformed by nobody."""
    return (
        given[0].device.type == "mps"
        and not _aside
        and shaders.are_wanted()
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("mps")
        and not transforms.at_work(*given)
    )


def tensors(args: tuple[Any, ...]) -> Iterator[Tensor]:
    """Those among the arguments, and in states and modules that are among them."""
    for arg in args:
        if isinstance(arg, Tensor):
            yield arg
        elif isinstance(arg, State):
            yield from arg.tensors().values()


def device_of(args: tuple[Any, ...]) -> torch.device:
    """Where the arguments of a call lie."""
    return next(tensors(args)).device


def _tried(
    operation: Operation[..., Any], compute: Function, args: tuple[Any, ...], device: torch.device, within: float
) -> tuple[bool, str]:
    """Whether it is to be taken, and why.

    Raises:
        Exception: of any kind, where it fails.
    """
    with plainly():
        exact = list(_results(operation(*map(_in_float64, args))))
    given = tuple(_moved(arg, device) for arg in args)
    error, allowed = _worst(list(_results(compute(*given))), exact, within)
    if error > allowed:
        raise ArithmeticError(f"differs from the CPU by {error:.1e}, where {allowed:.0e} is allowed")
    right = f"agrees with the CPU to {error:.0e}"
    if os.environ.get(shaders.VARIABLE) == "1":
        return True, f"{right}; nobody asked which is sooner, as {shaders.VARIABLE}=1 says"
    share = seconds(lambda: compute(*given)) / seconds(lambda: operation(*given))
    return share < 1, f"{right}, and takes {share:.2f} of the time of torch's own kernels"


@contextmanager
def _left_aside() -> Iterator[None]:
    """Within, no kernel of ours is taken."""
    global _aside
    before, _aside = _aside, True
    try:
        yield
    finally:
        _aside = before


def _failed(operation: Operation[..., Any], fault: Exception) -> str:
    """What a verdict says of a fault, which is told at once."""
    reason = str(fault).partition("\n")[0] or type(fault).__name__
    warnings.warn(
        f"a kernel of ours for {operation.plain.__name__} is left aside, and torch's own are used: {reason}. "
        f"{shaders.VARIABLE}=0 leaves all of ours aside",
        stacklevel=2,
    )
    return f"failed: {reason}"


def _described(args: tuple[Any, ...]) -> str:
    """How large what was given is, and of what numbers."""
    given = list(tensors(args))
    dtypes = dict.fromkeys(str(tensor.dtype).removeprefix("torch.") for tensor in given)
    return f"{' x '.join(map(str, given[0].shape))}, {', '.join(dtypes)}"


def seconds(compute: Callable[[], Any]) -> float:
    """What a call takes, with the device's work: the best of some rounds."""
    taken = []
    for _ in range(ROUNDS + 1):  # the first is to warm up
        torch.mps.synchronize()
        begun = time.perf_counter()
        for _ in range(CALLS):
            compute()
        torch.mps.synchronize()
        taken.append((time.perf_counter() - begun) / CALLS)
    return min(taken[1:])


def _moved(arg: Any, device: torch.device) -> Any:
    """The same on a device; a view, where it is one."""
    if isinstance(arg, Tensor):
        return arg.to(device)
    if isinstance(arg, State):
        return arg.map(lambda tensor: tensor.to(device))
    return copy.deepcopy(arg).to(device) if isinstance(arg, nn.Module) else arg


def _in_float64(arg: Any) -> Any:
    if isinstance(arg, Tensor):
        return arg.double() if arg.is_floating_point() else arg
    if isinstance(arg, State):
        return arg.map(Tensor.double)
    return copy.deepcopy(arg).double() if isinstance(arg, nn.Module) else arg


def _worst(found: list[Tensor], exact: list[Tensor], within: float) -> tuple[float, float]:
    """The largest difference, relative to the largest value, of the result that is furthest off for what is allowed of
    it; and what is. A NaN counts as infinite."""
    pairs = []
    for one, other in zip(found, exact, strict=True):
        size = float(other.abs().max()) or 1.0
        error = float((one.cpu().double() - other).abs().max()) / size
        allowed = within if one.dtype == torch.float32 else 2 * torch.finfo(one.dtype).eps
        pairs.append((math.inf if math.isnan(error) else error, allowed))
    return max(pairs, key=lambda pair: pair[0] / pair[1])


def _results(result: Any) -> Iterator[Tensor]:
    return tensors(result if isinstance(result, tuple) else (result,))
