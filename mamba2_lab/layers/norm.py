"""Norms."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba2_lab import scan


class RMSNorm(nn.Module):
    """x / rms(x) * weight, over the last axis, computed in float32 and returned in the dtype of the weight."""

    def __init__(self, d: int, eps: float = 1e-5, *, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d, device=device))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(self.weight.dtype, torch.float32))
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps).to(self.weight.dtype)


class GatedRMSNorm(RMSNorm):
    """RMSNorm joined with the gate silu(z), normalising each group of channels on its own.

    norm(y * silu(z)), or norm(y) * silu(z) if norm_before_gate. (Paper, section 7.1 and figure 6: a norm before the
    last projection; by group, so that groups can live on different devices.)
    """

    def __init__(
        self,
        d: int,
        eps: float = 1e-5,
        ngroups: int = 1,
        norm_before_gate: bool = False,
        *,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(d, eps, device=device)
        self.ngroups = ngroups
        self.norm_before_gate = norm_before_gate

    def forward(self, y: Tensor, z: Tensor) -> Tensor:  # type: ignore[override]
        accumulate = torch.promote_types(self.weight.dtype, torch.float32)
        weight = self.weight.to(accumulate)
        if self.norm_before_gate:
            normalised = _normalise(y.to(accumulate), weight, self.eps, self.ngroups)
            return (normalised * F.silu(z.to(accumulate))).to(self.weight.dtype)
        normed = scan.with_own_backward(_GateAndNormalise, y, z, weight, self.eps, self.ngroups)
        return normed.to(self.weight.dtype)


def _normalise(y: Tensor, weight: Tensor, eps: float, ngroups: int) -> Tensor:
    if ngroups == 1:  # one fused kernel where the device has it
        return F.rms_norm(y, weight.shape, weight, eps)
    grouped = y.unflatten(-1, (ngroups, -1))
    return F.rms_norm(grouped, grouped.shape[-1:], eps=eps).flatten(-2) * weight


class _GateAndNormalise(torch.autograd.Function):
    """norm(y * silu(z)) * weight, in the dtype of the weight: (...,d) twice and (d,) -> (...,d).

    Its own backward pass, because autograd would keep four tensors as large as y beside y and z: of a training step's
    memory an eighth. Here they are computed again.
    """

    @staticmethod
    def forward(y: Tensor, z: Tensor, weight: Tensor, eps: float, ngroups: int) -> Tensor:
        return _normalise(y.to(weight.dtype) * F.silu(z.to(weight.dtype)), weight, eps, ngroups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        y, z, weight, ctx.eps, ctx.ngroups = inputs
        ctx.save_for_backward(y, z, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y, z, weight = ctx.saved_tensors
        grad, y_, z_ = grads[0], y.to(weight.dtype), z.to(weight.dtype)
        grouped = (*y.shape[:-1], ctx.ngroups, y.shape[-1] // ctx.ngroups)
        gate = F.silu(z_)
        gated = (y_ * gate).reshape(grouped)
        scale = torch.rsqrt(gated.square().mean(dim=-1, keepdim=True) + ctx.eps)  # 1 / rms
        normalised = gated * scale
        weighted = (grad * weight).reshape(grouped)
        # n = v / rms(v): a change of v along n itself only changes the length, which is normalised away.
        along = (weighted * normalised).mean(dim=-1, keepdim=True)
        grad_gated = torch.addcmul(weighted, normalised, along, value=-1).mul_(scale).reshape(y.shape)
        grad_weight = (grad * normalised.reshape(y.shape)).sum(dim=tuple(range(y.ndim - 1)))
        grad_z = _silu_backward(grad_gated * y_, z_)
        return (grad_gated * gate).to(y.dtype), grad_z.to(z.dtype), grad_weight, None, None


def _silu_backward(grad: Tensor, z: Tensor) -> Tensor:
    """The gradient of silu: torch's own is one kernel, but has no derivative."""
    if not torch.is_grad_enabled():
        return torch.ops.aten.silu_backward(grad, z)
    open_ = torch.sigmoid(z)
    return grad * open_ * (1 + z * (1 - open_))
