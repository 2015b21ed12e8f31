"""What a Mamba-1 layer did.

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T       the state of a channel: n numbers, each with its own A
    y_t = h_t C_t

A channel is a head of one channel here, p = 1: h is d_inner. All channels share B and C. There is no one half-life of a
head, for each number of its state fades at its own rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mamba2_lab import scan
from mamba2_lab.inspect import layer
from mamba2_lab.inspect.layer import Contributions, Positions, lacking
from mamba2_lab.inspect.recurrent import RecurrentTrace, decay_between, parts_of_convolved, through_convolution
from mamba2_lab.inspect.tracer import Tracer, kept
from mamba2_lab.layers import Mamba1, Mamba1State


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Mamba1Trace(RecurrentTrace):
    """What a Mamba-1 layer did at every token, in the order in which the block does it; p = 1.

    u: (l,d) the residual stream that came in.
    z: (l,h,p) the gate, before its silu.
    inputs: (l,h) what goes into the convolution. window: (w-1,h) its inputs from before the prompt.
    x: (l,h,p), after the convolution and its silu.
    dt: (l,h) Delta, after softplus. B, C: (l,n). Those that FalconMamba normalises, after that.
    y: (l,h,p) what was read from the state: h C.
    gated: (l,h,p) what goes into out_proj: y + D x, gated.
    output: (l,d) what the mixer adds to the residual stream.

    A: (h,n) < 0. D: (h,). taps: (w,h) of the convolution, the last one for the token itself; conv_bias: (h,).
    checkpoints: (c,h,p,n) the states before the tokens 0, spacing, 2 spacing, ...
    """

    mixer = "mamba1"
    lacks = lacking(
        {
            layer.OF_ONE_DECAY: "each number of a state fades at its own rate: see decays, half_life_by_state",
            layer.OF_TURNING: "its memory does not turn",
            ("lam", "gamma", "delta"): "a token writes once, with the weight dt",
            layer.OF_RANKS: "a channel has one pair (B, C)",
            ("xBC",): "its convolution takes x alone: see inputs",
            (
                "k",
                "q",
                *layer.OF_LOOKING_BACK,
            ): "it reads a state; its keys and queries are B and C",
        }
    )

    inputs: Tensor
    window: Tensor
    B: Tensor
    C: Tensor
    A: Tensor
    taps: Tensor
    conv_bias: Tensor

    @property
    def _in_words(self) -> str:
        return f"{self.heads} channels with a state of {self.B.shape[1]}"

    @property
    def half_life_by_state(self) -> Tensor:
        """(h,n): in tokens, ln 2 / mean(-dt A): that of a constant decay which fades as much over this prompt."""
        return math.log(2) / (self.dt.mean(dim=0)[:, None] * self.A).abs()

    @property
    def written(self) -> Tensor:
        """(l,h): the norm of what each token wrote, |dt x B^T|."""
        return self.dt * self.x.norm(dim=-1) * self.B.norm(dim=-1, keepdim=True)

    def decays(self, head: int) -> Tensor:
        """(l,n) in 0..1: the part of each number of a channel's state that token t keeps."""
        return self._log_decays(head).exp()

    def writes(self, head: int, positions: Positions | None = None) -> Tensor:
        """(t,p,n): what tokens wrote into a channel's state, dt x B^T. All positions by default."""
        at = self._positions("positions", positions)
        return (self.x[at, self._head(head)] * self.dt[at, head, None])[:, :, None] * self.B[at, None, :]

    def attention(self, head: int, targets: Positions | None = None, *, with_dt: bool = True) -> Tensor:
        """(t,l): rows of the signed hidden attention of a channel, all of them by default.

        M[t,s] = sum_n C_t[n] exp(A[n] (dt_{s+1} + ... + dt_t)) B_s[n] dt_s says how the x of source s enters the output
        of target t: y_t = sum_s M[t,s] x_s + `initial_part`. (Ali et al. 2024, arXiv:2403.01590.)

        Args:
            with_dt: False leaves the factor dt_s out.

        Raises:
            TypeError, ValueError: naming the argument, what was expected and what came.
        """
        at = self._positions("targets", targets)
        M = torch.einsum("tsn,tn,sn->ts", self._left(head, at, slice(0, None)), self.C[at], self.B)
        return M * self.dt[:, head] if with_dt else M

    def initial_part(self, head: int, targets: Positions | None = None) -> Tensor:
        """(t,p): what the outputs read of the state that stood before the prompt."""
        at = self._positions("targets", targets)
        left = self._log_decays(head).cumsum(dim=0)[at].exp()  # (t,n)
        return (left * self.C[at]) @ self.checkpoints[0, head].mT

    def x_parts(self, head: int) -> Tensor:
        """(w+1,l,p): which token's input each x is made of: its own, that of 1 token ago, of w-1 ago, and the bias."""
        channel = slice(self._head(head), head + 1)
        window, inputs, taps = (each[:, channel] for each in (self.window, self.inputs, self.taps))
        return parts_of_convolved(window, inputs, taps, self.conv_bias[channel])

    def contributions(self, head: int, target: int) -> Contributions:
        """How each token of the prompt entered one channel's output y + D x at one token: attention, skip, convolution.

        B, C and dt come from the x of all channels; here they are taken as they are.
        """
        row = self.attention(head, [target])[0]
        row[target] += self.D[head]
        return through_convolution(row, self.x_parts(head), self.initial_part(head, [target])[0])

    def _log_decays(self, head: int, sources: slice = slice(None)) -> Tensor:
        """(l,n): dt A of a channel."""
        return self.dt[sources, self._head(head), None] * self.A[head]

    def _left(self, head: int, targets: Tensor, sources: slice) -> Tensor:
        """(t,k,n): what is left at each target of the numbers that each of a run of sources wrote."""
        log_decays = self._log_decays(head, sources).unbind(dim=1)
        return torch.stack([decay_between(each, targets - sources.start) for each in log_decays], dim=-1)

    def _states_after(self, state: Tensor, head: int, start: int, positions: Tensor) -> Tensor:
        part = slice(start, int(positions.max()) + 1)
        wrote = self.x[part, head] * self.dt[part, head, None] * self.B[part]  # (k,n), p being 1
        written = (self._left(head, positions, part) * wrote).sum(dim=1)
        left = self._log_decays(head, part).cumsum(dim=0)[positions - start].exp()
        return (written + left * state[0])[:, None, :]


class Mamba1Tracer(Tracer):
    """Reads a Mamba-1 layer."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._window = self.state.conv_window[0]

    @staticmethod
    def least_spacing(mixer: Mamba1) -> int:
        """d_state, for the states to take no more room than x."""
        return mixer.config.d_state

    def mix(self, start: int, u: Tensor) -> Tensor:
        mixer = self.mixer
        inputs, z = mixer.project(u)
        x = mixer.convolve(inputs, self.state.conv_window)
        dt, B, C = mixer.select(x)
        y, checkpoints, state = self._scan(x.to(dt.dtype), dt, B, C)
        gated = mixer.gate(torch.addcmul(y, x.to(y.dtype), mixer.D.to(y.dtype)).to(x.dtype), z)
        of_channels = {"z": z, "x": x, "y": y, "gated": gated}
        self.tokens.put(start, inputs=inputs[0], dt=dt[0], B=B[0], C=C[0])
        self.tokens.put(start, **{name: each[0].unsqueeze(-1) for name, each in of_channels.items()})
        self.stretches.put(start // self.spacing, checkpoints=checkpoints)
        self.state = Mamba1State(mixer.conv1d.last_inputs(inputs, self.state.conv_window), state)
        return mixer.out(gated)

    def trace(self) -> Mamba1Trace:
        mixer, conv = self.mixer, self.mixer.conv1d
        return Mamba1Trace(
            **self.kept,
            spacing=self.spacing,
            window=kept(self._window),
            A=kept(mixer.decay_rates()),
            D=kept(mixer.D.clone()),
            taps=kept(conv.weight.squeeze(1).t().clone()),
            conv_bias=kept(conv.weight.new_zeros(mixer.config.d_inner) if conv.bias is None else conv.bias.clone()),
        )

    def _scan(self, x: Tensor, dt: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """In stretches: y (1,l,h), the states before each stretch (c,h,p,n), and the state after the last."""
        state = self.state.ssm_state
        ys, states = [], []
        for start in range(0, x.shape[1], self.spacing):
            part = slice(start, start + self.spacing)
            states.append(state.unsqueeze(2))
            given = (x[:, part], dt[:, part], self.mixer.decay_rates(), B[:, part], C[:, part])
            y, state = scan.selective(*given, initial_state=state)
            ys.append(y)
        return torch.cat(ys, dim=1), torch.cat(states), state
