"""The scan of Mamba-1 that never holds the states of all tokens, (b,l,d,n): a tile of tokens at a time.

Inside a tile decays, and what is written, are made for all tokens at once; only the recurrence itself goes token by
token. On a CPU a tile is one stretch of tokens, small enough for its cache. Elsewhere, where each kernel has its price,
a tile is several stretches: all of them advance at once, each by itself from nothing; then the states before each
stretch follow from one another, and every token adds what is left of the state before its stretch.

The backward pass keeps the states before each tile, and computes those inside of it again.

In here n stands before d, so that rows are long, and tokens stand first. Shapes: q tokens of a stretch, c stretches of
a tile; x, dt (q,c,b,1,d); B, C (q,c,b,n,1); A (n,d); states (q,c,b,n,d).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.fast.own_backward import not_transformed
from mamba2_lab.machine import transforms
from mamba2_lab.scan.arguments import RESTART
from mamba2_lab.scan.per_channel import scan_channels, turn_channels

TOKENS_PER_STRETCH = 16
STRETCHES_PER_TILE = 8  # where stretches advance at once

# One token


@turn_channels.way("in place", serves=lambda *args: not transforms.by_torch_func(), within=1e-6)
def _(x_t: Tensor, dt_t: Tensor, A: Tensor, B_t: Tensor, C_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """In fewer passes over the state."""
    written = (dt_t * x_t).unsqueeze(-1) * B_t.unsqueeze(1)
    new_state = written.addcmul_(torch.exp(dt_t.unsqueeze(-1) * A), state)  # `written` is ours alone
    return torch.matmul(new_state, C_t.unsqueeze(-1)).squeeze(-1), new_state


# A sequence


@scan_channels.way("tile by tile", serves=not_transformed, within=1e-6)
def _(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, starts: Tensor | None
) -> tuple[Tensor, Tensor]:
    y, final, _ = torch.ops.mamba2_lab.selective(x, dt, A, B, C, state, starts, torch.is_grad_enabled())
    return y, final


# As an operation of its own: a compiler would unroll the loops over tokens.
_library = torch.library.Library("mamba2_lab", "FRAGMENT")
_ARGUMENTS = "Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor state, Tensor? starts"
_library.define(f"selective({_ARGUMENTS}, bool keep) -> (Tensor, Tensor, Tensor)")
_library.define(
    f"selective_backward(Tensor grad_y, Tensor grad_state, {_ARGUMENTS}, Tensor kept)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


@torch.library.impl(_library, "selective", "CompositeExplicitAutograd")
def _selective(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, starts: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """y (b,l,d), the last state (b,d,n), and if they shall be kept the states before each tile (tiles,b,n,d)."""
    A, state = A.t().contiguous(), state.mT.contiguous()
    ys, kept = [], []
    for tile in _tiles(x, dt, B, C, starts):
        if keep:
            kept.append(state)
        states = tile.states(tile.decays(A), A, state)
        ys.append(_in_order(tile.C.mT @ states[1:], tile.tokens))
        state = states[-1, -1].clone()
    y = torch.cat(ys, dim=1) if ys else torch.empty_like(x)
    return y, state.mT.contiguous(), torch.stack(kept) if kept else state.new_empty(0, *state.shape)


@torch.library.impl(_library, "selective_backward", "CompositeExplicitAutograd")
def _selective_backward(
    grad_y: Tensor,
    grad_state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    state: Tensor,
    starts: Tensor | None,
    kept: Tensor,
) -> tuple[Tensor, ...]:
    """Gradients of x, dt, A, B, C and the initial state; the last tile first."""
    A, after = A.t().contiguous(), grad_state.mT.contiguous()
    grad_A, of_tokens = torch.zeros_like(A), list[tuple[Tensor, ...]]()
    tiles = list(zip(_tiles(x, dt, B, C, starts), _tiles(grad_y, dt, B, C, starts), kept.unbind(), strict=True))
    for tile, of_y, before in reversed(tiles):
        decays = tile.decays(A)
        states = tile.states(decays, A, before)
        grad_C = states[1:] @ of_y.x.mT
        grads, after = tile.gradients_of_states(tile.C * of_y.x, decays, A, after)
        grad_B, grad_written = grads @ (tile.dt * tile.x).mT, tile.B.mT @ grads
        of_log_decays = grads.mul_(decays).mul_(states[:-1])
        grad_dt = (of_log_decays * A).sum(dim=-2, keepdim=True).addcmul_(grad_written, tile.x)
        grad_A += of_log_decays.mul_(tile.dt).sum(dim=(0, 1, 2))
        pieces = (grad_written * tile.dt, grad_dt, grad_B, grad_C)
        of_tokens.append(tuple(_in_order(piece, tile.tokens) for piece in pieces))
    if not of_tokens:
        of_tokens = [tuple(map(torch.empty_like, (x, dt, B, C)))]
    grad_x, grad_dt, grad_B, grad_C = (torch.cat(pieces, dim=1) for pieces in zip(*reversed(of_tokens), strict=True))
    return grad_x, grad_dt, grad_A.t().contiguous(), grad_B, grad_C, after.mT.contiguous()


class _Tile(NamedTuple):
    """Tokens that are computed at once: c stretches of q."""

    tokens: int  # how many are real; behind them dt is 0, so that time stands still
    x: Tensor
    dt: Tensor
    B: Tensor
    C: Tensor
    restarts: Tensor | None  # (q,c,b,1,1) a log decay: RESTART or 0

    def decays(self, A: Tensor) -> Tensor:
        """How much of the state before each token is left after it."""
        log_decays = self.dt * A
        return (log_decays if self.restarts is None else log_decays.add_(self.restarts)).exp_()

    def states(self, decays: Tensor, A: Tensor, before: Tensor) -> Tensor:
        """States before each token in [:-1], after each in [1:]: (q+1,c,b,n,d). before: (b,n,d), that of the tile."""
        q, c, *_ = decays.shape
        states = decays.new_empty(q + 1, *decays.shape[1:])
        torch.mul(self.dt * self.x, self.B, out=states[1:])  # at first what each token writes
        if c == 1:
            states[0, 0] = before
        else:
            states[0] = 0
        for (earlier, later), decay in zip(pairwise(states.unbind()), decays.unbind(), strict=True):
            later.addcmul_(decay, earlier)
        if c > 1:
            left = self._left_since_start(A)
            for j in range(c):
                states[0, j] = before
                before = torch.addcmul(states[-1, j], left[-1, j], before)
            states[1:].addcmul_(left, states[0])
        return states

    def gradients_of_states(
        self, of_outputs: Tensor, decays: Tensor, A: Tensor, after: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same recurrence backwards: gradients of the state after each token, and of that before the tile.

        of_outputs: what reaches the states from their own tokens, (q,c,b,n,d); overwritten. after: (b,n,d), what
        reaches the last from the tiles behind.
        """
        grads, c = of_outputs, decays.shape[1]
        if c == 1:
            grads[-1, 0] += after
        for (later, earlier), decay in zip(pairwise(reversed(grads.unbind())), reversed(decays.unbind()), strict=False):
            earlier.addcmul_(decay, later)
        if c > 1:
            left, behind = self._left_at_end(A), torch.empty_like(grads[0])
            for j in reversed(range(c)):
                behind[j] = after
                after = torch.addcmul(grads[0, j], left[0, j], after) * decays[0, j]
            return grads.addcmul_(left, behind), after
        return grads, grads[0, 0] * decays[0, 0]

    def _left_since_start(self, A: Tensor) -> Tensor:
        """How much of the state before its stretch is left after each token. Summed, never a difference of sums."""
        return self._left(self.dt.cumsum(dim=0), None if self.restarts is None else self.restarts.cumsum(dim=0), A)

    def _left_at_end(self, A: Tensor) -> Tensor:
        """How much of the state after each token is left at the end of its stretch."""
        return self._left(_sum_behind(self.dt), None if self.restarts is None else _sum_behind(self.restarts), A)

    def _left(self, dt: Tensor, restarts: Tensor | None, A: Tensor) -> Tensor:
        return self._replace(dt=dt, restarts=restarts).decays(A)


def _sum_behind(values: Tensor) -> Tensor:
    """For each token the sum over those behind it: (q,...) -> (q,...)."""
    sums = values.flip(0).cumsum(dim=0).flip(0)
    return torch.cat([sums[1:], torch.zeros_like(sums[:1])])


def _tiles(x: Tensor, dt: Tensor, B: Tensor, C: Tensor, starts: Tensor | None) -> Iterator[_Tile]:
    """A sequence (b,l,...) in tiles."""
    l, size = x.shape[1], _tokens_per_tile(x.device)
    restarts = None if starts is None else starts.unsqueeze(-1).to(x.dtype) * RESTART
    for start in range(0, l, size):
        tokens = min(size, l - start)
        x_, dt_, B_, C_ = (_in_stretches(part[:, start : start + tokens]) for part in (x, dt, B, C))
        again = None if restarts is None else _in_stretches(restarts[:, start : start + tokens])
        yield _Tile(tokens, x_, dt_, B_.mT, C_.mT, again)


def _tokens_per_tile(device: torch.device) -> int:
    return TOKENS_PER_STRETCH * (1 if device.type == "cpu" else STRETCHES_PER_TILE)


def _in_stretches(values: Tensor) -> Tensor:
    """(b,tokens,d) -> (q,c,b,1,d), filled up with zeros."""
    q = min(TOKENS_PER_STRETCH, values.shape[1])
    values = F.pad(values, (0, 0, 0, -values.shape[1] % q))
    return values.unflatten(1, (-1, q)).permute(2, 1, 0, 3).unsqueeze(3)


def _in_order(values: Tensor, tokens: int) -> Tensor:
    """(q,c,b,1,d) or (q,c,b,n,1) -> (b,tokens,d) or (b,tokens,n): the inverse."""
    return values.flatten(3).permute(2, 1, 0, 3).flatten(1, 2)[:, :tokens]


@torch.library.register_fake("mamba2_lab::selective", lib=_library)
def _empty(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, starts: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    size = _tokens_per_tile(x.device)
    tiles = (x.shape[1] + size - 1) // size if keep else 0
    return x.new_empty(x.shape), x.new_empty(state.shape), x.new_empty(tiles, *state.mT.shape)


@torch.library.register_fake("mamba2_lab::selective_backward", lib=_library)
def _empty_gradients(grad_y: Tensor, grad_state: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in inputs[:6])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:7], output[2])


def _gradients(ctx: Any, grad_y: Tensor | None, grad_state: Tensor | None, of_kept: None) -> tuple[Tensor | None, ...]:
    *inputs, starts, kept = ctx.saved_tensors
    x, *_, state = inputs
    grad_y = torch.zeros_like(x) if grad_y is None else grad_y
    grad_state = torch.zeros_like(state) if grad_state is None else grad_state
    if torch.is_grad_enabled() or transforms.by_torch_func():  # to be differentiated again, or for many at once
        by_definition = lambda *given: scan_channels.plain(*given, starts)  # type: ignore[call-arg]  # noqa: E731
        back = torch.func.vjp(by_definition, *inputs)[1]
        return *back((grad_y, grad_state)), None, None
    return *torch.ops.mamba2_lab.selective_backward(grad_y, grad_state, *inputs, starts, kept), None, None


torch.library.register_autograd("mamba2_lab::selective", _gradients, setup_context=_keep, lib=_library)
