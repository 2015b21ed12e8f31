"""What a training leaves as it was, whatever ends it: an error, a Ctrl-C, or its last step."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import Tensor

from mamba2_lab.mamba2_lm import MambaLM

MPS_FALLBACK = "PYTORCH_ENABLE_MPS_FALLBACK"
_MODES = ("training", "checkpoint_blocks", "forward", "_step")  # what a training sets on the model and its modules


def restore_modes(model: MambaLM, afterwards: ExitStack) -> None:
    """Have modes and compiled functions be what they are now when `afterwards` ends; and torch's own modes, which an
    exception amid torch's context managers leaves switched."""
    afterwards.callback(torch._C._set_grad_enabled, torch.is_grad_enabled())
    kind = model.device.type
    afterwards.callback(torch.set_autocast_enabled, kind, torch.is_autocast_enabled(kind))
    for module in model.modules():
        fields = vars(module)
        for name in _MODES:
            if name in fields:
                afterwards.callback(fields.__setitem__, name, fields[name])
            else:
                afterwards.callback(fields.pop, name, None)


def restore_accelerate(afterwards: ExitStack) -> None:
    """Have what accelerate keeps for the whole process be as it is now when `afterwards` ends: what an Accelerator of
    the caller's stands on, and a variable, set on a Mac, that lets mps fall back to the CPU in silence in every process
    that is started from this one."""
    for kind in (PartialState, AcceleratorState, GradientState):
        afterwards.callback(kind._shared_state.update, dict(kind._shared_state))
        afterwards.callback(kind._shared_state.clear)  # this comes first
    fallback = os.environ.get(MPS_FALLBACK)
    if fallback is None:
        afterwards.callback(os.environ.pop, MPS_FALLBACK, None)
    else:
        afterwards.callback(os.environ.__setitem__, MPS_FALLBACK, fallback)


@contextmanager
def all_or_nothing(parameters: Iterable[Tensor]) -> Iterator[None]:
    """A change of all these weights, or of none if it fails half way."""
    weights = [parameter.detach() for parameter in parameters]
    before = [weight.clone() for weight in weights]
    try:
        yield
    except BaseException:
        for weight, old in zip(weights, before, strict=True):
            weight.copy_(old)
        raise
