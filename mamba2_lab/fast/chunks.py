"""Chunks: how much is kept inside of one, and how states pass from one to the next."""

from __future__ import annotations

import math
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from mamba2_lab.fast.own_backward import not_transformed, with_own_backward
from mamba2_lab.scan.chunks import decay_inside, pass_between_chunks
from mamba2_lab.scan.dual import segsum

# Inside of a chunk


@decay_inside.way("own backward pass", serves=not_transformed, within=1e-6)
def _(log_decay: Tensor) -> tuple[Tensor, Tensor]:
    return with_own_backward(_Decay, log_decay)


class _Decay(torch.autograd.Function):
    """exp of `_sums_since_source` (..., l, l), and its last row, the decay from each source to the end: (..., l).

    Its own backward pass. log_decay_t is part of every sum from a source before t to a target at or after t, so its
    gradient is a sum over sources, then over targets. Autograd would flip a matrix of that size twice, for its cumsum.
    What comes back from above the diagonal is left out.
    """

    @staticmethod
    def forward(log_decay: Tensor) -> tuple[Tensor, Tensor]:
        by_difference = log_decay.device.type == "cpu" and log_decay.dtype == torch.float32
        decay = (_sums_by_difference if by_difference else _sums_since_source)(log_decay).exp_()
        return decay, decay[..., -1, :].clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(output[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (decay,) = ctx.saved_tensors
        l, batch = decay.shape[-1], math.prod(decay.shape[:-2])  # one batch axis: mps is wrong with many
        matrices = (grads[0] * decay).reshape(batch, l, l).tril_(-1)
        over_sources = torch.cumsum(matrices, dim=-1)  # [t, s]: sources up to s
        grad = over_sources.tril_(-1).sum(dim=-2)  # [s]: and targets after s, that is, at s + 1 or later
        to_end = (grads[1] * decay[..., -1, :]).reshape(batch, l)
        grad = grad + torch.cumsum(to_end, dim=-1)  # the end is a target after all of them
        return torch.nn.functional.pad(grad[:, :-1], (1, 0)).reshape(decay.shape[:-1])


def _sums_since_source(log_decay: Tensor) -> Tensor:
    """Log decays summed from source to target, (...,l) -> (...,l,l): `segsum` with 0 above the diagonal."""
    l = log_decay.shape[-1]
    after_source = torch.ones(l, l, dtype=torch.bool, device=log_decay.device).tril(-1)  # t > s
    terms = torch.where(after_source, log_decay.unsqueeze(-1), 0.0)  # terms[t, s] = log_decay_t
    return torch.cumsum(terms.reshape(math.prod(log_decay.shape[:-1]), l, l), dim=-2).view(terms.shape)


def _sums_by_difference(log_decay: Tensor) -> Tensor:
    """`_sums_since_source` of float32, in less than half of its time on a CPU."""
    return differences(torch.cumsum(log_decay.double(), dim=-1)).tril_()


def differences(cumulated: Tensor) -> Tensor:
    """Float64 sums since a start (..., l) -> float32 sums from source to target (..., l, l), on and below the diagonal.

    A difference of two sums loses the digits that they share. In float64 there are 29 bits to lose.
    """
    return (cumulated.unsqueeze(-1) - cumulated.unsqueeze(-2)).float()


# Between chunks


@pass_between_chunks.way(
    "one after another",
    serves=lambda left_behind, *rest: left_behind.device.type == "cpu" and not_transformed(left_behind, *rest),
    within=1e-6,
)
def _(left_behind: Tensor, chunk_log_decay: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    kept = torch.exp(chunk_log_decay).repeat_interleave(state.shape[2], dim=-1).unsqueeze(-1)  # (b c g rp 1)
    before, final = with_own_backward(_PassInTurn, left_behind, kept, state.reshape(left_behind[:, 0].shape))
    return before, final.reshape(state.shape)


class _PassInTurn(torch.autograd.Function):
    """left_behind (b,c,g,rp,n), kept (b,c,g,rp,1), state (b,g,rp,n) -> states before each chunk, and the last.

    Its own backward pass, because autograd would keep each state twice: once for the next, once among the others.
    """

    @staticmethod
    def forward(left_behind: Tensor, kept: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return in_turn(left_behind, kept, state, dim=1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(output[0], inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        before, kept = ctx.saved_tensors
        grad_before, grad = grads
        grad_after = []  # of the state after each chunk, and so of what the chunk leaves behind; the last chunk first
        for i in reversed(range(before.shape[1])):
            grad_after.append(grad)
            grad = torch.addcmul(grad_before[:, i], grad, kept[:, i])
        grad_left = torch.stack(grad_after[::-1], dim=1)
        return grad_left, (grad_left * before).sum(dim=-1, keepdim=True), grad


def in_turn(left_behind: Tensor, kept: Tensor, state: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """States before each chunk, stacked in the dtype of left_behind, and the last as it is."""
    before = []
    for left, share in zip(left_behind.unbind(dim), kept.unbind(dim), strict=True):
        before.append(state.to(left_behind.dtype))
        state = torch.addcmul(left, state, share)
    return torch.stack(before, dim=dim), state


@pass_between_chunks.way("all at once", serves=lambda left_behind, *rest: left_behind.device.type != "cpu", within=1e-6)
def _(left_behind: Tensor, chunk_log_decay: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """A product with the matrix of decays between chunks: a fixed number of kernels."""
    r, n = chunk_log_decay.shape[-1], left_behind.shape[-1]
    log_decay = torch.nn.functional.pad(rearrange(chunk_log_decay, "b c g r -> b g r c"), (1, 0))
    decay = torch.exp(segsum(log_decay))  # (b g r c+1 c+1)
    sources = torch.cat([state.reshape(left_behind[:, 0].shape).unsqueeze(1), left_behind], dim=1)
    states = decay @ rearrange(sources, "b c g (r p) n -> b g r c (p n)", r=r)
    states = rearrange(states, "b g r c (p n) -> b c g (r p) n", n=n)
    last = states[:, -1].clone()  # a view would keep all of them as long as the last, which goes into a cache
    return states[:, :-1], last.reshape(state.shape)
