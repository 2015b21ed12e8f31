"""What layers with a recurrence have in common: states, and, where a head fades at one rate, its half-lives.

h_t = a_t h_{t-1} + what token t writes         the state of a head
y_t = h_t read by token t
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.inspect.layer import Contributions, LayerTrace, Positions


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RecurrentTrace(LayerTrace):
    """What a layer with a recurrence did at every token.

    z: (l,h,p) the gate, before its silu.
    x: (l,h,p), and dt: (l,h) Delta, after softplus: what is written, and for how long a step.
    y: (l,h,p) what was read from the state.
    gated: (l,h,p) what goes into out_proj.
    D: (h,) the weight of the skip.
    checkpoints: (c,h,p,n) the states before the tokens 0, spacing, 2 spacing, ...
    """

    z: Tensor
    x: Tensor
    dt: Tensor
    y: Tensor
    gated: Tensor
    D: Tensor
    checkpoints: Tensor
    spacing: int

    @property
    def heads(self) -> int:
        """h."""
        return self.dt.shape[1]

    @property
    def _in_words(self) -> str:
        _, h, p, n = self.checkpoints.shape
        return f"{h} heads with a state of {p} x {n}"

    @property
    def read(self) -> Tensor:
        """(l,h): the norm of what each token read, |h C|."""
        return self.y.norm(dim=-1)

    @property
    def skipped(self) -> Tensor:
        """(l,h,p): D x, what passes by the state."""
        return self.D[:, None] * self.x

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

    def initial_part(self, head: int, targets: Positions | None = None) -> Tensor:
        """(t,p): what the outputs read of the state that stood before the prompt."""
        raise NotImplementedError

    def contributions(self, head: int, target: int) -> Contributions:
        """How each token of the prompt entered one head's output y + D x at one token."""
        raise NotImplementedError

    def _states_after(self, state: Tensor, head: int, start: int, positions: Tensor) -> Tensor:
        """(t,p,n) from the state (p,n) before token `start`; the positions lie in one stretch of `spacing` tokens."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FadingTrace(RecurrentTrace):
    """The same of heads that fade at one rate each.

    log_decay: (l,h) dt A, <= 0: token t multiplies the state by exp(log_decay[t]) before it writes.
    log_decay_at_rest: (h,) dt A of a token whose projection is 0, so that it says nothing about time.
    """

    log_decay: Tensor
    log_decay_at_rest: Tensor

    @property
    def decay(self) -> Tensor:
        """(l,h) in 0..1: the part of the state that token t keeps."""
        return self.log_decay.exp()

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


def decay_between(log_decay: Tensor, targets: Tensor) -> Tensor:
    """Rows of the decay mask L: log_decay (l,), targets (t,) -> (t,l), what is left at target t of what s wrote.

    exp(log_decay_{s+1} + ... + log_decay_t), and 0 for s > t. Each row is summed from its target backwards: a
    difference of two running sums would lose the digits that matter (see `scan.segsum`, which makes all rows at once).
    """
    source = torch.arange(log_decay.shape[0])
    later = source > targets[:, None]  # (t,l)
    passed = log_decay.masked_fill(later, 0.0).flip(-1).cumsum(dim=-1).flip(-1)  # with the source's own decay
    return F.pad(passed[:, 1:], (0, 1)).exp().masked_fill(later, 0.0)


def parts_of_convolved(window: Tensor, inputs: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """(w+1,l,p): which token's input each output of a convolution and its silu is made of: its own, that of 1 token
    ago, of w-1 ago, and the bias.

    silu(v) = sigmoid(v) v, and v is the sum of taps times inputs plus the bias: with the factor sigmoid(v) on each
    of them, the parts add up to the output exactly.

    Args:
        window: (w-1,p) the inputs from before the prompt. inputs: (l,p). taps: (w,p), the last one for the token
            itself. bias: (p,).
    """
    padded = torch.cat([window, inputs])
    l, w = len(inputs), len(taps)
    parts = [taps[i] * padded[i : i + l] for i in reversed(range(w))]
    sums = torch.stack([*parts, bias.expand(l, -1)])
    return sums * torch.sigmoid(sums.sum(dim=0))


def through_convolution(row: Tensor, parts: Tensor, initial: Tensor) -> Contributions:
    """An output that reads the sources s with the weights of a row (l,), and of what each of these is made.

    Args:
        parts: (w+1,l,p) as `parts_of_convolved` gives them. initial: (p,) what is read of the state before the prompt.
    """
    *lags, bias = row[:, None] * parts
    tokens, before = torch.zeros_like(bias), torch.zeros_like(bias[0])
    l = len(row)
    for lag, part in enumerate(lags):
        tokens[: max(l - lag, 0)] += part[lag:]
        before += part[:lag].sum(dim=0)
    return Contributions(tokens, before, bias.sum(dim=0), initial)
