"""torch.compile, for a whole model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mamba2_lab.fast.known import CompiledStep
from mamba2_lab.layers import Block
from mamba2_lab.machine import threads
from mamba2_lab.model import LanguageModel

# For torch.compile's own backend on a CPU. A step multiplies matrices with one vector each; a short chain of operations
# that made the vector would be computed again for every row, so let a chain be 8 operations at most. The sizes of a
# thousand tensors need not be asserted in each step: they were guarded when it was called. And loops are vectorised
# even where one of their inputs, such as the taps of the convolution, is not read in order.
CPU_OPTIONS = {"realize_opcount_threshold": 8, "size_asserts": False, "cpp.enable_tiling_heuristics": False}


def compile_model(model: LanguageModel, options: dict[str, Any]) -> None:
    """Put compiled code in the place of what a model's blocks and its step do.

    For sequences one block is compiled and all use it, in a third of the time that the whole stack would take. But a
    step does so little that going in and out of each block would be a tenth to a third of it, so that one is compiled
    whole.

    Compiled code for a CPU takes as many threads as torch had when it was made, and these wait for one another,
    spinning. So while other processes take cores, a model that reads or writes does so as it is written.

    Args:
        options: those of `torch.compile`; without any, `CPU_OPTIONS` go to its backend on a CPU.
    """
    if not options and model.device.type == "cpu":
        options = {"options": CPU_OPTIONS}
    read = torch.compile(Block.forward, **options)
    # For sizes left open torch 2.13 writes loops on a CPU that, with gradients, write outside of their tensors.
    learn = torch.compile(Block.forward, **{"dynamic": False, **options})

    def forward(block: Block, *args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
        if torch.is_grad_enabled():
            return learn(block, *args, **kwargs)
        if threads.are_taken(next(block.parameters()).device):
            return threads.on_free_cores(Block.forward, block, *args, **kwargs)
        return read(block, *args, **kwargs)

    for block in model.blocks:
        block.forward = functools.partial(forward, block)  # type: ignore[method-assign]
    model._step = CompiledStep(model, torch.compile(LanguageModel._step, **options))  # type: ignore[method-assign]
    model._on_free_cores = functools.partial(_called, model)  # type: ignore[method-assign]


def uncompile_model(model: LanguageModel) -> None:
    """Back to the code as it is written."""
    for name in ("_step", "_on_free_cores"):
        model.__dict__.pop(name, None)
    for block in model.blocks:
        block.__dict__.pop("forward", None)


def _called(model: LanguageModel, function: Callable[..., Any], *args: Any) -> Any:
    """With torch's number of threads, for each other one torch.compile would begin anew; or as it is written."""
    if not threads.are_taken(model.device):
        return function(*args)
    as_written = functools.partial(type(model)._step, model) if function is model._step else function
    return threads.on_free_cores(as_written, *args)
