"""What one layer did while a model read one prompt.

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T       the state of a head: what is kept, plus what is written
    y_t = h_t C_t                                    what is read

Shapes, without a batch: l length, d d_model, h heads, p headdim, g groups, n d_state, w d_conv, t the positions asked
for. channels = h p + 2 g n: those that pass through the convolution, x, B and C, in this order. Heads share the B and C
of their group: head i reads group i // (h/g). Everything is on the CPU, in float32 (float64 of a float64 model).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.checks import require, require_whole

Positions = Sequence[int] | Tensor


@dataclass(frozen=True, eq=False)
class Contributions:
    """What one head's output at one token is the sum of. Each entry of the sum is a vector (p,).

    tokens: (l,p) what each token of the prompt added, through the convolution's taps, the state and the skip D x.
    before: (p,) the convolution's inputs from before the prompt.
    bias: (p,) the convolution's bias.
    initial: (p,) what is left of the state that the prompt began with.
    """

    tokens: Tensor
    before: Tensor
    bias: Tensor
    initial: Tensor

    @property
    def total(self) -> Tensor:
        """(p,): y + D x of that head and token."""
        return self.tokens.sum(dim=0) + self.before + self.bias + self.initial


@dataclass(frozen=True, eq=False, repr=False)
class LayerTrace:
    """What one layer did at every token, in the order in which the block does it.

    u: (l,d) the residual stream that came in.
    z: (l,h,p) the gate, before its silu.
    xBC: (l,channels) what goes into the convolution. window: (w-1,channels) its inputs from before the prompt.
    x: (l,h,p), B, C: (l,g,n), after the convolution and its silu.
    dt: (l,h) Delta, after softplus and dt_limit.
    log_decay: (l,h) dt A, <= 0: token t multiplies the state by exp(log_decay[t]) before it writes.
    y: (l,h,p) what was read from the state: h C.
    gated: (l,h,p) what goes into out_proj: y + D x, normalised and gated.
    output: (l,d) what the layer adds to the residual stream.

    D: (h,). taps: (w,channels) of the convolution, the last one for the token itself; conv_bias: (channels,).
    log_decay_at_rest: (h,) dt A where the token adds nothing to the step size: dt = softplus(dt_bias), within dt_limit.
    checkpoints: (c,h,p,n) the states before the tokens 0, spacing, 2 spacing, ...
    """

    u: Tensor
    z: Tensor
    xBC: Tensor
    window: Tensor
    x: Tensor
    dt: Tensor
    log_decay: Tensor
    B: Tensor
    C: Tensor
    y: Tensor
    gated: Tensor
    output: Tensor
    D: Tensor
    taps: Tensor
    conv_bias: Tensor
    log_decay_at_rest: Tensor
    checkpoints: Tensor
    spacing: int

    def __repr__(self) -> str:
        l, h, p = self.x.shape
        return f"LayerTrace({l} tokens, {h} heads with a state of {p} x {self.B.shape[-1]})"

    # Of all heads

    @property
    def decay(self) -> Tensor:
        """(l,h) in 0..1: the part of the state that token t keeps."""
        return self.log_decay.exp()

    @property
    def written(self) -> Tensor:
        """(l,h): the norm of what each token wrote, |dt x B^T| = dt |x| |B|."""
        return self.dt * self.x.norm(dim=-1) * self._per_head(self.B.norm(dim=-1))

    @property
    def skipped(self) -> Tensor:
        """(l,h,p): D x, what passes by the state."""
        return self.D[:, None] * self.x

    @property
    def half_life(self) -> Tensor:
        """(h,): in tokens, ln 2 / mean(-log_decay): that of a constant decay which fades as much over this prompt.

        inf for a head that keeps everything. A head that resets now and then has a short one, though it may keep all
        in between: see `half_lives`.
        """
        return math.log(2) / self.log_decay.mean(dim=0).abs()

    @property
    def half_life_at_rest(self) -> Tensor:
        """(h,): in tokens, ln 2 / (|A| dt) with dt = softplus(dt_bias): what A alone says, whatever is read."""
        return math.log(2) / self.log_decay_at_rest.abs()

    @property
    def half_lives(self) -> Tensor:
        """(l,h): after how many tokens half of what each token wrote is left; inf if that is after the prompt's end.

        Time passes evenly during a token (h' = A h for a time dt), so the number need not be whole, and for a constant
        decay it is `half_life` at every token.
        """
        left = self.log_decay.double().cumsum(dim=0).t().contiguous()  # (h,l), falling
        target = left - math.log(2)
        token = torch.searchsorted(-left, -target)  # the first one by which half is gone
        reached = token < left.shape[1]
        token = token.clamp(max=left.shape[1] - 1)
        too_far = (target - left.gather(1, token)) / -self.log_decay.double().t().gather(1, token)  # in tokens
        source = torch.arange(left.shape[1])
        return torch.where(reached, token - source - too_far, math.inf).t().to(self.dt.dtype)

    # Of one head

    def writes(self, head: int, positions: Positions | None = None) -> Tensor:
        """(t,p,n): what tokens wrote into a head's state, dt x B^T. All positions by default."""
        at = self._positions("positions", positions)
        x_dt = self.x[at, self._head(head)] * self.dt[at, head, None]
        return x_dt[:, :, None] * self.B[at, self._group(head), None, :]

    def states(self, head: int, positions: Positions | None = None) -> Tensor:
        """(t,p,n): a head's state after the tokens at these positions, all by default.

        Computed from the nearest checkpoint before, so one state costs the same anywhere in the prompt.

        Raises:
            TypeError, ValueError: naming the argument, what was expected and what came.
        """
        at = self._positions("positions", positions)
        states = self.x.new_empty(len(at), *self.checkpoints.shape[2:])
        stretch = at // self.spacing
        for i in stretch.unique().tolist():
            here = stretch == i
            states[here] = self._states_after(self.checkpoints[i, self._head(head)], head, i * self.spacing, at[here])
        return states

    def attention(self, head: int, targets: Positions | None = None, *, with_dt: bool = True) -> Tensor:
        """(t,l): rows of the signed hidden attention M = L o (C B^T) dt, all of them by default.

        M[t,s] = exp(log_decay_{s+1} + ... + log_decay_t) (C_t . B_s) dt_s says how the x of source s enters the output
        of target t: y_t = sum_s M[t,s] x_s + `initial_part`. (Dao & Gu 2024, arXiv:2405.21060, section 5; the name is
        that of Ali et al. 2024, arXiv:2403.01590.)

        Args:
            with_dt: False leaves the factor dt_s out: how well query and key agree after fading, however much was
                written.

        Raises:
            TypeError, ValueError: naming the argument, what was expected and what came.
        """
        at = self._positions("targets", targets)
        group = self._group(head)
        M = decay_between(self.log_decay[:, head], at) * (self.C[at, group] @ self.B[:, group].mT)
        return M * self.dt[:, head] if with_dt else M

    def initial_part(self, head: int, targets: Positions | None = None) -> Tensor:
        """(t,p): what the outputs read of the state that stood before the prompt."""
        at = self._positions("targets", targets)
        left = self.log_decay[:, self._head(head)].cumsum(dim=0)[at].exp()
        return left[:, None] * (self.C[at, self._group(head)] @ self.checkpoints[0, head].mT)

    def x_parts(self, head: int) -> Tensor:
        """(w+1,l,p): which token's input each x is made of: its own, that of 1 token ago, of w-1 ago, and the bias.

        silu(v) = sigmoid(v) v, and v is the sum of taps times inputs plus the bias: with the factor sigmoid(v) on each
        of them, the parts add up to x exactly.
        """
        p = self.x.shape[2]
        channels = slice(self._head(head) * p, (head + 1) * p)
        inputs = torch.cat([self.window[:, channels], self.xBC[:, channels]])
        l, w = len(self.x), len(self.taps)
        parts = [self.taps[i, channels] * inputs[i : i + l] for i in reversed(range(w))]
        sums = torch.stack([*parts, self.conv_bias[channels].expand(l, p)])
        return sums * torch.sigmoid(sums.sum(dim=0))

    def contributions(self, head: int, target: int) -> Contributions:
        """How each token of the prompt entered one head's output y + D x at one token: attention, skip, convolution.

        `attention` stops at the x that come out of the convolution, and each of these is made of w tokens. Here the
        convolution is taken apart as well (`x_parts`), and the diagonal gets the skip's D.
        """
        row = self.attention(head, [target])[0]
        row[target] += self.D[head]
        *lags, bias = row[:, None] * self.x_parts(head)
        tokens, before = torch.zeros_like(bias), torch.zeros_like(bias[0])
        l = len(row)
        for lag, part in enumerate(lags):
            tokens[: max(l - lag, 0)] += part[lag:]
            before += part[:lag].sum(dim=0)
        return Contributions(tokens, before, bias.sum(dim=0), self.initial_part(head, [target])[0])

    def _states_after(self, state: Tensor, head: int, start: int, positions: Tensor) -> Tensor:
        """(t,p,n) from the state (p,n) before token `start`; the positions lie in one stretch of `spacing` tokens."""
        part = slice(start, int(positions.max()) + 1)
        log_decay = self.log_decay[part, head]
        left = decay_between(log_decay, positions - start)  # (t,k) of what token k wrote
        keys = left.unsqueeze(-1) * self.B[part, self._group(head)]  # (t,k,n)
        written = (self.x[part, head] * self.dt[part, head, None]).mT @ keys
        return torch.addcmul(written, log_decay.cumsum(dim=0)[positions - start, None, None].exp(), state)

    def _per_head(self, of_groups: Tensor) -> Tensor:
        """(l,g) -> (l,h)"""
        return of_groups.repeat_interleave(self.dt.shape[1] // of_groups.shape[1], dim=1)

    def _head(self, head: int) -> int:
        check_index("head", head, self.dt.shape[1])
        return head

    def _group(self, head: int) -> int:
        h, g = self.dt.shape[1], self.B.shape[1]
        return self._head(head) // (h // g)

    def _positions(self, name: str, positions: Positions | None) -> Tensor:
        return torch.arange(len(self.dt)) if positions is None else check_positions(name, positions, len(self.dt))


def decay_between(log_decay: Tensor, targets: Tensor) -> Tensor:
    """Rows of the decay mask L: log_decay (l,), targets (t,) -> (t,l), what is left at target t of what s wrote.

    exp(log_decay_{s+1} + ... + log_decay_t), and 0 for s > t. Each row is summed from its target backwards: a
    difference of two running sums would lose the digits that matter (see `scan.segsum`, which makes all rows at once).
    """
    source = torch.arange(log_decay.shape[0])
    later = source > targets[:, None]  # (t,l)
    passed = log_decay.masked_fill(later, 0.0).flip(-1).cumsum(dim=-1).flip(-1)  # with the source's own decay
    return F.pad(passed[:, 1:], (0, 1)).exp().masked_fill(later, 0.0)


def check_index(name: str, index: int, count: int) -> None:
    """TypeError or ValueError unless index is a whole number in 0..count-1."""
    require_whole(name, index)
    require(0 <= index < count, name, f"in 0..{count - 1}", index)


def check_positions(name: str, positions: Positions, count: int) -> Tensor:
    """(t,) whole numbers; TypeError or ValueError unless each lies in 0..count-1."""
    at = torch.as_tensor(positions)
    if at.ndim != 1 or (at.numel() and (at.is_floating_point() or at.dtype == torch.bool)):
        raise TypeError(f"{name} must be a list of whole numbers; got {positions!r}")
    if at.numel() and not (0 <= int(at.min()) and int(at.max()) < count):
        raise ValueError(f"{name} must lie in 0..{count - 1}; got {at.tolist()}")
    return at.long()
