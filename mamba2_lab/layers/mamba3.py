"""The Mamba-3 mixer: a memory that turns, written by the trapezoidal rule, and read in one rank or in several.

    project -> discretise -> turn -> scan -> skip -> gate -> out

Shapes: b batch, l length, d d_model, h heads, p headdim, g groups, n d_state, r ranks (1 without is_mimo), s angles;
d_inner = h p. Parameter names and layouts are those of the official code (state-spaces/mamba, modules/mamba3.py), so
that weights move between the two without a change. The paper is Lahoti et al. 2026, "Mamba-3", arXiv:2603.15569.
Padding has one form here: real tokens first, `lengths` (b,) of them in each row; at the rest Delta is 0, so time stands
still.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba2_lab import scan
from mamba2_lab.config import Mamba3Fields
from mamba2_lab.layers.documents import is_padding, through_padding
from mamba2_lab.layers.linear import Projection
from mamba2_lab.layers.mixer import Mixer, State
from mamba2_lab.layers.norm import GatedRMSNorm, RMSNorm
from mamba2_lab.layers.rotary import Pairs, accumulate, drop_whole_turns, rotate
from mamba2_lab.layers.step_size import draw_dt_bias
from mamba2_lab.machine.shapes import Shape
from mamba2_lab.operation import operation

NORM_EPS = 1e-5  # the official code has no name for it


class Mamba3(Mixer["Mamba3State"]):
    """The Mamba-3 mixer: (b,l,d_model) -> (b,l,d_model), in time linear in l.

    >>> mixer = Mamba3(d_model=256)
    >>> mixer(torch.randn(1, 10, 256)).shape
    torch.Size([1, 10, 256])

    Args:
        d_model: width of the residual stream.
        fields: the other fields of `Mamba3Fields`, by name; their defaults are there, and what is refused.
    """

    # Parameters that set time scales and passes: pulling them to zero with weight decay would pull at the memory.
    no_weight_decay = ("dt_bias", "D")

    def __init__(self, d_model: int, *, device: torch.device | str | None = None, **fields: Any) -> None:
        super().__init__()
        self.config = config = Mamba3Fields.from_dict({"d_model": d_model, **fields})
        h, r, p, n = config.nheads, config.rank, config.headdim, config.d_state
        with torch.device(torch.get_default_device() if device is None else device):
            self.in_proj = Projection(d_model, sum(self.widths()), bias=False)
            self.dt_bias = nn.Parameter(draw_dt_bias(h, config.dt_min, config.dt_max, config.dt_init_floor))
            self.B_bias = nn.Parameter(torch.ones(h, r, n))
            self.C_bias = nn.Parameter(torch.ones(h, r, n))
            self.B_norm = RMSNorm(n, NORM_EPS)
            self.C_norm = RMSNorm(n, NORM_EPS)
            if config.is_mimo:  # each rank has its own share of every channel: of x, of the gate, of what comes out
                self.mimo_x = nn.Parameter(torch.full((h, r, p), 1 / r))
                self.mimo_z = nn.Parameter(torch.ones(h, r, p))
                self.mimo_o = nn.Parameter(torch.full((h, r, p), 1 / r))
            self.D = nn.Parameter(torch.ones(h))
            norm = GatedRMSNorm(config.d_inner, NORM_EPS, ngroups=h, norm_before_gate=True)
            self.norm = norm if config.is_outproj_norm else None
            self.out_proj = Projection(config.d_inner, d_model, bias=False)

    def prefill(
        self,
        u: Tensor,
        state: Mamba3State | None = None,
        *,
        lengths: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> tuple[Tensor, Mamba3State]:
        """As `forward`, from a state to a state: a sequence may be cut anywhere and continued.

        Args:
            u: (b,l,d_model).
            state: what came before; None is the start of a sequence.
            lengths: (b,) number of real tokens, which come first in each row; the rest is padding. None: all real.
            document_ids: (b,l) integers; the memory restarts where the id changes.

        Returns:
            (b,l,d_model) and the state after the last real token of each row.

        Raises:
            ValueError: for a wrong shape.
        """
        if document_ids is not None and lengths is not None:
            document_ids = through_padding(document_ids, lengths)
        state = self._checked(u, "b,l", state)
        projected = self.project(u)
        terms = self.discretise(projected, lengths)
        # On across documents: only differences of angles count.
        turns = turns_since_start(state.turns, terms.dt, terms.speed)
        k, q = self.turn(projected, turns)
        x = self.into_ranks(projected.x)
        given = (x, terms.log_decay, terms.gamma, terms.delta, k, q, self._written(state))
        y, ssm_state = scan.trapezoidal(*given, self.config.chunk_size, document_ids=document_ids)
        now = (turns, k.transpose(-3, -2), projected.x)
        last = (last_real(*each, lengths) for each in zip(now, (state.turns, state.last_k, state.last_x), strict=True))
        return self.out(self.gate(self.skip(y, x), projected.z)), self._state(ssm_state, *last)

    def step(self, u_t: Tensor, state: Mamba3State) -> tuple[Tensor, Mamba3State]:
        """One token: u_t (b,d_model) and the state before it -> (b,d_model) and the state after it."""
        state = self._checked(u_t, "b", state)
        y, state = self.between_matrices(self.project(u_t), state)
        return self.out(y), state

    def between_matrices(self, projected: Projected, state: Mamba3State) -> tuple[Tensor, Mamba3State]:
        """`step` from what in_proj has made of a token to what out_proj takes, (b,d_inner); and the state after it."""
        terms = self.discretise(projected)
        turns = drop_whole_turns(state.turns + terms.turns)
        k, q = self.turn(projected, turns)
        x = self.into_ranks(projected.x)
        given = (x, terms.log_decay, terms.gamma, terms.delta, k, q, self._written(state))
        y, ssm_state = scan.trapezoidal_step(*given)
        after = self._state(ssm_state, turns, k.transpose(-3, -2), projected.x)
        return self.gate(self.skip(y, x), projected.z), after

    def initial_state(self, batch_size: int) -> Mamba3State:
        """What stands before the first token: nothing."""
        shapes = self.state_shapes(batch_size).values()
        dtype, device = torch.promote_types(self.D.dtype, torch.float32), self.D.device
        return Mamba3State(*(torch.zeros(shape, dtype=dtype, device=device) for shape in shapes))

    def state_shapes(self, batch_size: int) -> dict[str, Shape]:
        """The shapes of a `Mamba3State`, by name."""
        b, h, r, p, n = batch_size, self.config.nheads, self.config.rank, self.config.headdim, self.config.d_state
        return {
            "ssm_state": (b, h, p, n),
            "turns": (b, h, self.config.angles),
            "last_k": (b, h, r, n),
            "last_x": (b, h, p),
        }

    # The steps. Each takes (b,l,...) or, for one token, (b,...).

    def project(self, u: Tensor) -> Projected:
        """One matrix makes everything a token needs."""
        return self.parts(self.in_proj(u))

    def parts(self, projected: Tensor) -> Projected:
        """What one matrix has made (b,l,d_in_proj), apart: in the official order."""
        config = self.config
        z, x, B, C, dt, A, trap, angle = projected.split(self.widths(), dim=-1)
        z, x = (part.unflatten(-1, (config.nheads, config.headdim)) for part in (z, x))
        B, C = (part.unflatten(-1, (config.rank, config.ngroups, config.d_state)) for part in (B, C))
        return Projected(z, x, B, C, dt, A, trap, angle)

    def discretise(self, projected: Projected, lengths: Tensor | None = None) -> Trapezoid:
        """From raw numbers to a step in time: how long it is, what it keeps, how it writes, and how far it turns."""
        accumulate_in = torch.promote_types(projected.dt.dtype, torch.float32)
        dt, A, trap, angle = (part.to(accumulate_in) for part in projected[4:])
        dt = F.softplus(dt + self.dt_bias.to(accumulate_in))
        if lengths is not None:
            dt = dt.masked_fill(is_padding(lengths, dt.shape[1]).unsqueeze(-1), 0.0)
        A = -ACTIVATIONS[self.config.A_activation](A).clamp(min=self.config.A_floor)
        speed = torch.tanh(angle) / 2  # at most half a turn in one unit of time
        return Trapezoid(dt, torch.sigmoid(trap), dt * A, speed)

    def turn(self, projected: Projected, turns: Tensor) -> tuple[Tensor, Tensor]:
        """k and q, (b,l,r,h,n): B and C normalised, with the bias of each head and rank, and turned by its angle.

        turns: (b,l,h,s), since the start of the sequence. What a head reads depends on differences of angles alone, so
        this does what a state would do that itself turned, in the other sense; `layers.turning_states` shows both.
        """
        pairs: Pairs = "halves" if self.config.is_mimo else "neighbours"
        B, C = self.B_norm(projected.B), self.C_norm(projected.C)
        return turn_of_heads(B, C, self.B_bias, self.C_bias, turns, pairs, projected.B.dtype)

    def into_ranks(self, x: Tensor) -> Tensor:
        """What each rank writes: (b,l,h,p) -> (b,l,r,h,p), in float32."""
        x = x.unsqueeze(-3).to(torch.promote_types(x.dtype, torch.float32))
        return x * by_rank(self.mimo_x, x) if self.config.is_mimo else x

    def skip(self, y: Tensor, x: Tensor) -> Tensor:
        """Add D x, what passes by the state: (b,l,r,h,p) twice -> (b,l,r,h,p)."""
        return torch.addcmul(y, x, self.D.to(y.dtype).unsqueeze(-1))

    def gate(self, y: Tensor, z: Tensor) -> Tensor:
        """Open and close each channel by its gate, and bring the ranks together: (b,l,r,h,p) -> (b,l,d_inner)."""
        gates = z.to(y.dtype).unsqueeze(-3)
        gates = gates * by_rank(self.mimo_z, gates) if self.config.is_mimo else gates
        if self.norm is None:
            y = y * F.silu(gates)
        else:
            y = self.norm(y.flatten(-2), gates.flatten(-2)).unflatten(-1, y.shape[-2:])
        y = (y * by_rank(self.mimo_o, y)).sum(dim=-3) if self.config.is_mimo else y.squeeze(-3)
        return y.flatten(-2).to(z.dtype)

    def out(self, y: Tensor) -> Tensor:
        """Back to the residual stream: (b,l,d_inner) -> (b,l,d_model)."""
        return self.out_proj(y)

    def widths(self) -> list[int]:
        """Of the parts of in_proj: z, x, B, C, dt, A, trap, angle."""
        config = self.config
        bc = config.rank * config.ngroups * config.d_state
        return [config.d_inner, config.d_inner, bc, bc, *[config.nheads] * 3, config.angles]

    def _written(self, state: Mamba3State) -> scan.Written:
        return scan.Written(state.ssm_state, self.into_ranks(state.last_x), state.last_k.transpose(-3, -2))

    def _state(self, ssm_state: Tensor, turns: Tensor, last_k: Tensor, last_x: Tensor) -> Mamba3State:
        # Copied: a view would keep all other tokens too. And laid out as in initial_state, as compiled code expects.
        kept = (
            part.to(ssm_state.dtype, copy=True, memory_format=torch.contiguous_format)
            for part in (turns, last_k, last_x)
        )
        return Mamba3State(ssm_state, *kept)


@dataclass(frozen=True)
class Mamba3State(State):
    """What a `Mamba3` remembers, float32 whatever the dtype of the weights.

    ssm_state: (b,h,p,n), the state of the recurrence.
    turns: (b,h,s), how far k and q are turned, in turns: -1/2..1/2.
    last_k: (b,h,r,n), last_x: (b,h,p), the last token's k, turned, and x: it writes once more when the next one comes.
    """

    memory, by_head = "ssm_state", ("ssm_state", "turns", "last_k", "last_x")

    ssm_state: Tensor
    turns: Tensor
    last_k: Tensor
    last_x: Tensor


class Projected(NamedTuple):
    """What in_proj makes of each token, in the official order."""

    z: Tensor  # (b,l,h,p) the gate
    x: Tensor  # (b,l,h,p)
    B: Tensor  # (b,l,r,g,n)
    C: Tensor  # (b,l,r,g,n)
    dt: Tensor  # (b,l,h) the raw step size
    A: Tensor  # (b,l,h) the raw decay
    trap: Tensor  # (b,l,h) the raw weight of the step's two ends
    angle: Tensor  # (b,l,s) the raw speed of turning, shared by heads


class Trapezoid(NamedTuple):
    """A step in time, in float32. As in the paper, h_t = alpha h_{t-1} + beta U_{t-1} + gamma U_t."""

    dt: Tensor  # (b,l,h) Delta >= 0
    lam: Tensor  # (b,l,h) lambda in 0..1: how much of a step is written at its end; 1 is Mamba-2's rule
    log_decay: Tensor  # (b,l,h) Delta A <= 0
    speed: Tensor  # (b,l,s) how far a unit of time turns, in all heads

    @property
    def turns(self) -> Tensor:
        """(b,l,h,s): how far this step turns."""
        return self.dt.unsqueeze(-1) * self.speed.unsqueeze(-2)

    @property
    def alpha(self) -> Tensor:
        """What is kept."""
        return torch.exp(self.log_decay)

    @property
    def beta(self) -> Tensor:
        """The weight of the token before, faded over the step."""
        return self.alpha * self.delta

    @property
    def gamma(self) -> Tensor:
        """The weight of the token itself."""
        return self.lam * self.dt

    @property
    def delta(self) -> Tensor:
        """The weight of the token before, as the step begins."""
        return (1 - self.lam) * self.dt


def heavy_tail(a: Tensor) -> Tensor:
    """1 + a above 0, 1 / (1 - a) below: positive and smooth, and never nearly flat as softplus is."""
    return a.clamp(min=0) + 1 / (1 - a.clamp(max=0))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"heavy_tail": heavy_tail, "softplus": F.softplus}


@operation
def turns_since_start(before: Tensor, dt: Tensor, speed: Tensor) -> Tensor:
    """On from `before` (b,h,s), by a step dt (b,l,h) at a speed (b,l,s) for each token -> (b,l,h,s), in -1/2..1/2."""
    return accumulate(dt.unsqueeze(-1) * speed.unsqueeze(-2), before)


@operation
def turn_of_heads(
    B: Tensor, C: Tensor, B_bias: Tensor, C_bias: Tensor, turns: Tensor, pairs: Pairs, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """k and q: B and C (...,r,g,n) of groups, with biases (h,r,n) of heads, turned by (...,h,s) -> (...,r,h,n) twice.

    Rounded to the dtype at the end.
    """
    biased = (with_bias_of_heads(*each) for each in ((B, B_bias), (C, C_bias)))
    k, q = (rotate(each, turns.unsqueeze(-3), pairs).to(dtype) for each in biased)
    return k, q


def with_bias_of_heads(factor: Tensor, bias: Tensor) -> Tensor:
    """(...,r,g,n) of groups, (h,r,n) -> (...,r,h,n), in float32 at least."""
    factor = factor.to(torch.promote_types(factor.dtype, torch.float32))
    return (factor.unsqueeze(-2) + by_rank(bias, factor).unflatten(1, (factor.shape[-2], -1))).flatten(-3, -2)


def by_rank(parameter: Tensor, like: Tensor) -> Tensor:
    """(h,r,...) -> (r,h,...), in the dtype of what it meets."""
    return parameter.transpose(0, 1).to(like.dtype)


def last_real(values: Tensor, before: Tensor, lengths: Tensor | None) -> Tensor:
    """values (b,l,...) of the last real token in each row; where there is none, `before` (b,...)."""
    if values.shape[1] == 0:
        return before
    if lengths is None:
        return values[:, -1]
    lengths = lengths.view(-1, *[1] * (values.ndim - 1))
    last = values.gather(1, (lengths - 1).clamp(min=0).expand(-1, -1, *values.shape[2:]))
    return torch.where(lengths > 0, last, before.unsqueeze(1)).squeeze(1)
