"""Root mean square norms, with a gate or without."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba2_lab.operation import operation


class RMSNorm(nn.Module):
    """x / rms(x) * weight, over the last axis, computed in float32 and returned in the dtype of the weight."""

    def __init__(self, d: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(self.weight.dtype, torch.float32))
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps).to(self.weight.dtype)


class GatedRMSNorm(RMSNorm):
    """RMSNorm joined with the gate silu(z), normalising each group of channels on its own.

    norm(y * silu(z)), or norm(y) * silu(z) if norm_before_gate. (Paper, section 7.1 and figure 6: a norm before the
    last projection; by group, so that groups can live on different devices.)
    """

    def __init__(self, d: int, eps: float = 1e-5, ngroups: int = 1, norm_before_gate: bool = False) -> None:
        super().__init__(d, eps)
        self.ngroups, self.norm_before_gate = ngroups, norm_before_gate

    def forward(self, y: Tensor, z: Tensor) -> Tensor:  # type: ignore[override]
        return gate_and_normalise(y, z, self.weight, self.eps, self.ngroups, self.norm_before_gate)


@operation
def gate_and_normalise(
    y: Tensor, z: Tensor, weight: Tensor, eps: float, ngroups: int, norm_before_gate: bool
) -> Tensor:
    """What a `GatedRMSNorm` computes, in the dtype of the weight: (...,d) twice and (d,) -> (...,d)."""
    dtype, weight = weight.dtype, weight.to(torch.promote_types(weight.dtype, torch.float32))
    y, gate = y.to(weight.dtype), F.silu(z.to(weight.dtype))
    if norm_before_gate:
        return (normalise(y, weight, eps, ngroups) * gate).to(dtype)
    return normalise(y * gate, weight, eps, ngroups).to(dtype)


def normalise(y: Tensor, weight: Tensor, eps: float, ngroups: int) -> Tensor:
    """y / rms(y) * weight, each group of channels by its own rms: (...,d) and (d,) -> (...,d)."""
    if ngroups == 1:  # one fused kernel where the device has it
        return F.rms_norm(y, weight.shape, weight, eps)
    grouped = y.unflatten(-1, (ngroups, -1))
    return F.rms_norm(grouped, grouped.shape[-1:], eps=eps).flatten(-2) * weight
