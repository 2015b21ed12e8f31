"""Attention by torch's own kernels, which never hold the scores of all pairs of tokens."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.fast.own_backward import not_transformed, with_own_backward
from mamba2_lab.layers.attention import attend
from mamba2_lab.machine import transforms


def _serves(q: Tensor, *rest: Any) -> bool:
    """Not on mps, where published versions of the kernel have faults; and it has no answer for no tokens."""
    return q.device.type in ("cpu", "cuda") and q.numel() > 0 and not_transformed(q, *rest)


@attend.way("torch's kernels", serves=_serves, within=1e-6)
def _(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float) -> Tensor:
    return with_own_backward(_ByKernel, q, k, v, visible, scale)


class _ByKernel(torch.autograd.Function):
    """Its own backward pass, because the kernels have gradients, and those have none.

    A first gradient is that of the kernel, computed again. One to be differentiated once more, or many at once, are
    those of the definition.
    """

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float) -> Tensor:
        return _by_kernel(q, k, v, visible, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.scale = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *qkv, visible = ctx.saved_tensors
        once = not torch.is_grad_enabled() and not transforms.at_work(*grads)
        compute = _by_kernel if once else attend.plain
        _, pull_back = torch.func.vjp(lambda *qkv: compute(*qkv, visible, ctx.scale), *qkv)
        return *pull_back(grads[0]), None, None


def _by_kernel(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float) -> Tensor:
    y = F.scaled_dot_product_attention(
        *(heads.transpose(1, 2) for heads in (q, k, v)),
        attn_mask=None if visible is None else visible.unsqueeze(1),
        is_causal=visible is None,
        scale=scale,
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return y.transpose(1, 2)
