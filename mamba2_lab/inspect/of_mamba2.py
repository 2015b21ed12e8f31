"""What a Mamba-2 layer did.

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T       the state of a head: what is kept, plus what is written
    y_t = h_t C_t                                    what is read

channels = h p + 2 g n: those that pass through the convolution, x, B and C, in this order. Heads share the B and C of
their group: head i reads group i // (h/g).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mamba2_lab import scan
from mamba2_lab.inspect import layer
from mamba2_lab.inspect.layer import Contributions, Positions, lacking
from mamba2_lab.inspect.recurrent import FadingTrace, decay_between, parts_of_convolved, through_convolution
from mamba2_lab.inspect.tracer import Tracer, kept
from mamba2_lab.layers import Discretised, LayerState, Mamba2


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Mamba2Trace(FadingTrace):
    """What a Mamba-2 layer did at every token, in the order in which the block does it.

    u: (l,d) the residual stream that came in.
    z: (l,h,p) the gate, before its silu.
    xBC: (l,channels) what goes into the convolution. window: (w-1,channels) its inputs from before the prompt.
    x: (l,h,p), B, C: (l,g,n), after the convolution and its silu.
    dt: (l,h) Delta, after softplus and dt_limit.
    log_decay: (l,h) dt A, <= 0: token t multiplies the state by exp(log_decay[t]) before it writes.
    y: (l,h,p) what was read from the state: h C.
    gated: (l,h,p) what goes into out_proj: y + D x, normalised and gated.
    output: (l,d) what the mixer adds to the residual stream.

    D: (h,). taps: (w,channels) of the convolution, the last one for the token itself; conv_bias: (channels,).
    log_decay_at_rest: (h,) dt A where the token adds nothing to the step size: dt = softplus(dt_bias), within dt_limit.
    checkpoints: (c,h,p,n) the states before the tokens 0, spacing, 2 spacing, ...
    """

    mixer = "mamba2"
    lacks = lacking(
        {
            layer.OF_MANY_DECAYS: "a head fades at one rate: see log_decay and half_life",
            layer.OF_TURNING: "its memory does not turn",
            ("lam", "gamma", "delta"): "a token writes once, with the weight dt",
            layer.OF_RANKS: "a head has one pair (B, C)",
            ("inputs",): "its convolution takes x, B and C: see xBC",
            ("k", "q", *layer.OF_LOOKING_BACK): "it reads a state; its keys and queries are B and C",
        }
    )

    xBC: Tensor
    window: Tensor
    B: Tensor
    C: Tensor
    taps: Tensor
    conv_bias: Tensor

    @property
    def written(self) -> Tensor:
        """(l,h): the norm of what each token wrote, |dt x B^T| = dt |x| |B|."""
        return self.dt * self.x.norm(dim=-1) * self._per_head(self.B.norm(dim=-1))

    def writes(self, head: int, positions: Positions | None = None) -> Tensor:
        """(t,p,n): what tokens wrote into a head's state, dt x B^T. All positions by default."""
        at = self._positions("positions", positions)
        x_dt = self.x[at, self._head(head)] * self.dt[at, head, None]
        return x_dt[:, :, None] * self.B[at, self._group(head), None, :]

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
        """(w+1,l,p): which token's input each x is made of: its own, that of 1 token ago, of w-1 ago, and the bias."""
        p = self.x.shape[2]
        channels = slice(self._head(head) * p, (head + 1) * p)
        window, inputs, taps = (each[:, channels] for each in (self.window, self.xBC, self.taps))
        return parts_of_convolved(window, inputs, taps, self.conv_bias[channels])

    def contributions(self, head: int, target: int) -> Contributions:
        """How each token of the prompt entered one head's output y + D x at one token: attention, skip, convolution.

        `attention` stops at the x that come out of the convolution, and each of these is made of w tokens. Here the
        convolution is taken apart as well (`x_parts`), and the diagonal gets the skip's D.
        """
        row = self.attention(head, [target])[0]
        row[target] += self.D[head]
        return through_convolution(row, self.x_parts(head), self.initial_part(head, [target])[0])

    def _states_after(self, state: Tensor, head: int, start: int, positions: Tensor) -> Tensor:
        part = slice(start, int(positions.max()) + 1)
        log_decay = self.log_decay[part, head]
        left = decay_between(log_decay, positions - start)  # (t,k) of what token k wrote
        keys = left.unsqueeze(-1) * self.B[part, self._group(head)]  # (t,k,n)
        written = (self.x[part, head] * self.dt[part, head, None]).mT @ keys
        return torch.addcmul(written, log_decay.cumsum(dim=0)[positions - start, None, None].exp(), state)

    def _per_head(self, of_groups: Tensor) -> Tensor:
        """(l,g) -> (l,h)"""
        return of_groups.repeat_interleave(self.dt.shape[1] // of_groups.shape[1], dim=1)

    def _group(self, head: int) -> int:
        h, g = self.dt.shape[1], self.B.shape[1]
        return self._head(head) // (h // g)


class Mamba2Tracer(Tracer):
    """Reads a Mamba-2 layer."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._window = self.state.conv_window[0]

    @staticmethod
    def least_spacing(mixer: Mamba2) -> int:
        """d_state, for the states to take no more room than x; and a chunk of the scan."""
        return max(mixer.config.chunk_size, mixer.config.d_state)

    def mix(self, start: int, u: Tensor) -> Tensor:
        mixer = self.mixer
        z, xBC, dt = mixer.project(u)
        terms = mixer.discretise(mixer.convolve(xBC, self.state.conv_window), dt)
        y, checkpoints, state = self._scan(terms)
        gated = mixer.gate(mixer.skip(y, terms.x), z)
        heads = (mixer.config.nheads, mixer.config.headdim)
        self.tokens.put(
            start,
            z=z[0].unflatten(-1, heads),
            xBC=xBC[0],
            x=terms.x[0],
            dt=terms.dt[0],
            log_decay=terms.log_decay[0],
            B=terms.B[0],
            C=terms.C[0],
            y=y[0],
            gated=gated[0].unflatten(-1, heads),
        )
        self.stretches.put(start // self.spacing, checkpoints=checkpoints)
        self.state = LayerState(mixer.conv1d.last_inputs(xBC, self.state.conv_window), state)
        return mixer.out(gated)

    def trace(self) -> Mamba2Trace:
        mixer = self.mixer
        return Mamba2Trace(
            **self.kept,
            spacing=self.spacing,
            window=kept(self._window),
            D=kept(mixer.D.clone()),
            taps=kept(mixer.conv1d.weight.squeeze(1).t().clone()),
            conv_bias=kept(_bias(mixer)),
            log_decay_at_rest=kept(_at_rest(mixer).log_decay[0, 0]),
        )

    def _scan(self, terms: Discretised) -> tuple[Tensor, Tensor, Tensor]:
        """In stretches: y (1,l,h,p), the states before each stretch (c,h,p,n), and the state after the last."""
        state, x_dt = self.state.ssm_state, terms.x_dt
        ys, states = [], []
        for start in range(0, terms.dt.shape[1], self.spacing):
            part = slice(start, start + self.spacing)
            states.append(state)
            log_decay, B, C = terms.log_decay[:, part], terms.B[:, part], terms.C[:, part]
            y, state = scan.chunked(x_dt[:, part], log_decay, B, C, state, self.mixer.config.chunk_size)
            ys.append(y)
        return torch.cat(ys, dim=1), torch.cat(states), state


def _at_rest(mixer: Mamba2) -> Discretised:
    """What the block makes of a token whose projection is 0."""
    config, weight = mixer.config, mixer.in_proj.weight
    return mixer.discretise(weight.new_zeros(1, 1, config.conv_dim), weight.new_zeros(1, 1, config.nheads))


def _bias(mixer: Mamba2) -> Tensor:
    conv = mixer.conv1d
    return conv.weight.new_zeros(mixer.config.conv_dim) if conv.bias is None else conv.bias.clone()
