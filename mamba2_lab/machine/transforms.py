"""When torch transforms what is computed.

torch.func (grad, vmap, jvp and what is made of them) and forward-mode differentiation go through a function operation
by operation. They know torch's operations and none of ours: so backward passes of our own, products by another library,
and what writes in place give way to what torch knows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def by_torch_func() -> bool:
    """Whether a transform of torch.func is at work. A compiler can read this, too."""
    return torch._C._are_functorch_transforms_active()


def at_work(*arguments: Any) -> bool:
    """Whether torch.func is, or one of these arguments carries a derivative forward."""
    if forward_ad._current_level < 0:  # outside of `dual_level`, where none does
        return by_torch_func()
    tensors = (argument for argument in arguments if isinstance(argument, Tensor))
    return by_torch_func() or any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)
