"""Attention by torch's own kernels, which never hold the scores of all pairs of tokens."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mamba2_lab.fast.own_backward import not_transformed, with_own_backward
from mamba2_lab.layers.attention import attend
from mamba2_lab.machine import transforms

# cuDNN, which torch takes where there is a mask, plans anew for each number of keys: in decoding, for every token.
WITHOUT_PLANS = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)


def _serves(q: Tensor, *rest: Any) -> bool:
    """Not on mps, where published versions of the kernel have faults; and it has no answer for no tokens."""
    return q.device.type in ("cpu", "cuda") and q.numel() > 0 and not_transformed(q, *rest)


@attend.way("torch's kernels", serves=_serves, within=1e-6)
def _(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float) -> Tensor:
    return with_own_backward(_ByKernel, q, k, v, visible, scale)


class _ByKernel(torch.autograd.Function):
    """Its own backward pass, because the kernels' gradients have none themselves.

    A gradient is that of the kernel, which computes its forward pass again. Only one that is to be differentiated once
    more, or for many gradients at once, is that of the definition.
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
        q, k, v, visible = ctx.saved_tensors
        if torch.is_grad_enabled() or transforms.at_work(*grads):
            define = partial(attend.plain, visible=visible, scale=ctx.scale)
            return *torch.func.vjp(define, q, k, v)[1](grads[0]), None, None
        with torch.enable_grad():
            q, k, v = (heads.detach().requires_grad_() for heads in (q, k, v))
            y = _by_kernel(q, k, v, visible, ctx.scale)
        return *torch.autograd.grad(y, (q, k, v), grads[0]), None, None


def _by_kernel(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float) -> Tensor:
    masked = q.is_cuda and visible is not None
    with sdpa_kernel(list(WITHOUT_PLANS)) if masked else nullcontext():
        y = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=None if visible is None else visible.unsqueeze(1),
            is_causal=visible is None,
            scale=scale,
            enable_gqa=q.shape[2] != k.shape[2],
        )
    return y.transpose(1, 2)
