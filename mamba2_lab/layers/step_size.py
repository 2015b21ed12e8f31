"""Step sizes at the start of training: Delta = softplus(dt + dt_bias)."""

import math

import torch
from torch import Tensor


def draw_dt_bias(count: int, dt_min: float, dt_max: float, floor: float) -> Tensor:
    """The bias with which an input of zero has a Delta drawn log-uniformly from dt_min..dt_max, not below the floor: so
    time scales begin spread over two decades."""
    low, high = math.log(dt_min), math.log(dt_max)
    dt = torch.exp(torch.rand(count) * (high - low) + low).clamp(min=floor)
    return inverse_softplus(dt)


def inverse_softplus(dt: Tensor) -> Tensor:
    """The v with softplus(v) = dt, in the form that keeps small dt exact."""
    return dt + torch.log(-torch.expm1(-dt))
