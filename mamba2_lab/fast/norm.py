"""Gate and norm without keeping what lies between them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.fast.own_backward import not_transformed, with_own_backward
from mamba2_lab.layers.norm import gate_and_normalise


@gate_and_normalise.way("computed again", serves=not_transformed, within=1e-6)
def _(y: Tensor, z: Tensor, weight: Tensor, eps: float, ngroups: int, norm_before_gate: bool) -> Tensor:
    return with_own_backward(_GateAndNormalise, y, z, weight, eps, ngroups, norm_before_gate)


class _GateAndNormalise(torch.autograd.Function):
    """The definition, with its own backward pass, because autograd would keep four tensors as large as y beside y and
    z: of a training step's memory an eighth. Here they are computed again."""

    @staticmethod
    def forward(y: Tensor, z: Tensor, weight: Tensor, eps: float, ngroups: int, norm_before_gate: bool) -> Tensor:
        return gate_and_normalise.plain(y, z, weight, eps, ngroups, norm_before_gate)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        y, z, weight, ctx.eps, ctx.ngroups, ctx.norm_before_gate = inputs
        ctx.save_for_backward(y, z, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y, z, weight = ctx.saved_tensors
        accumulate = torch.promote_types(weight.dtype, torch.float32)
        y_, z_, weight_, grad = (each.to(accumulate) for each in (y, z, weight, grads[0]))
        grouped = (*y.shape[:-1], ctx.ngroups, y.shape[-1] // ctx.ngroups)
        gate = F.silu(z_)
        grad_normed = grad * gate if ctx.norm_before_gate else grad
        before = (y_ if ctx.norm_before_gate else y_ * gate).reshape(grouped)
        scale = torch.rsqrt(before.square().mean(dim=-1, keepdim=True) + ctx.eps)  # 1 / rms
        normalised = before * scale
        weighted = (grad_normed * weight_).reshape(grouped)
        # n = v / rms(v): a change of v along n itself only changes the length, which is normalised away.
        along = (weighted * normalised).mean(dim=-1, keepdim=True)
        grad_before = torch.addcmul(weighted, normalised, along, value=-1).mul_(scale).reshape(y.shape)
        normalised = normalised.reshape(y.shape)
        grad_weight = (grad_normed * normalised).sum(dim=tuple(range(y.ndim - 1)))
        if ctx.norm_before_gate:
            grad_y, grad_gate = grad_before, grad * normalised * weight_
        else:
            grad_y, grad_gate = grad_before * gate, grad_before * y_
        grad_z = _silu_backward(grad_gate, z_)
        return grad_y.to(y.dtype), grad_z.to(z.dtype), grad_weight.to(weight.dtype), None, None, None


def _silu_backward(grad: Tensor, z: Tensor) -> Tensor:
    """The gradient of silu: torch's own is one kernel, but has no derivative."""
    if not torch.is_grad_enabled():
        return torch.ops.aten.silu_backward(grad, z)
    open_ = torch.sigmoid(z)
    return grad * open_ * (1 + z * (1 - open_))
