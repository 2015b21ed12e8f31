"""The Mamba-2 mixer: a chain of small named steps around the scan.

    project -> convolve -> discretise -> scan -> gate -> out

Shapes: b batch, l length, d d_model, h heads, p headdim, g groups, n d_state; d_inner = h p.
Parameter names and layouts are those of the official code (state-spaces/mamba, modules/mamba2.py), so that weights
move between the two without a change. Padding has one form here: real tokens first, `lengths` (b,) of them in each
row; at the rest Delta is 0, so time stands still and the state passes through. `model/rows.py` brings any mask into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba2_lab import scan
from mamba2_lab.config import Mamba2Fields
from mamba2_lab.layers.convolution import CausalConv
from mamba2_lab.layers.documents import is_padding, through_padding
from mamba2_lab.layers.linear import Projection
from mamba2_lab.layers.mixer import Mixer, State
from mamba2_lab.layers.norm import GatedRMSNorm
from mamba2_lab.layers.step_size import draw_dt_bias
from mamba2_lab.machine.shapes import Shape
from mamba2_lab.operation import operation


class Mamba2(Mixer["LayerState"]):
    """The Mamba-2 mixer: (b,l,d_model) -> (b,l,d_model), in time linear in l.

    >>> mixer = Mamba2(d_model=256)
    >>> mixer(torch.randn(1, 10, 256)).shape
    torch.Size([1, 10, 256])

    Args:
        d_model: width of the residual stream.
        fields: the other fields of `Mamba2Fields`, by name; their defaults are there, and what is refused.
    """

    # Parameters that set time scales and passes: pulling them to zero with weight decay would pull at the memory.
    no_weight_decay = ("dt_bias", "A_log", "D", "init_states")

    def __init__(self, d_model: int, *, device: torch.device | str | None = None, **fields: Any) -> None:
        super().__init__()
        self.config = config = Mamba2Fields.from_dict({"d_model": d_model, **fields})
        d_in_proj, state = config.d_inner + config.conv_dim + config.nheads, self.state_shapes(1)["ssm_state"][1:]
        with torch.device(torch.get_default_device() if device is None else device):
            self.in_proj = Projection(d_model, d_in_proj, bias=config.bias)
            self.conv1d = CausalConv(config.conv_dim, config.d_conv, bias=config.conv_bias)
            self.dt_bias = nn.Parameter(draw_dt_bias(config.nheads, config.dt_min, config.dt_max, config.dt_init_floor))
            low, high = config.A_init_range
            self.A_log = nn.Parameter(torch.log(torch.rand(config.nheads) * (high - low) + low))
            self.D = nn.Parameter(torch.ones(config.nheads))
            self.norm = GatedRMSNorm(config.d_inner, config.norm_eps, config.ngroups, config.norm_before_gate)
            self.out_proj = Projection(config.d_inner, d_model, bias=config.bias)
            self.init_states = nn.Parameter(torch.zeros(state)) if config.learnable_init_states else None

    def prefill(
        self,
        u: Tensor,
        state: LayerState | None = None,
        *,
        lengths: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> tuple[Tensor, LayerState]:
        """As `forward`, from a state to a state: a sequence may be cut anywhere and continued.

        Args:
            u: (b,l,d_model).
            state: what came before; None is the start of a sequence.
            lengths: (b,) number of real tokens, which come first in each row; the rest is padding. None: all real.
            document_ids: (b,l) integers; convolution and state restart where the id changes.

        Returns:
            (b,l,d_model) and the state after the last real token of each row.

        Raises:
            ValueError: for a wrong shape; for documents with learned initial states, which only the first would have.
        """
        if document_ids is not None and self.init_states is not None:
            raise ValueError(
                "document_ids cannot be used with learnable_init_states=True: give each document its own row"
            )
        if document_ids is not None and lengths is not None:
            document_ids = through_padding(document_ids, lengths)
        state = self._checked(u, "b,l", state)
        z, xBC, dt = self.project(u)
        convolved = self.convolve(xBC, state.conv_window, document_ids)
        terms = self.discretise(convolved, dt, lengths)
        y, ssm_state = scan_and_skip(self, terms, state.ssm_state, document_ids)
        window = self.conv1d.last_inputs(xBC, state.conv_window, lengths, document_ids)
        return self.out(self.gate(y, z)), LayerState(window, ssm_state)

    def step(self, u_t: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """One token: u_t (b,d_model) and the state before it -> (b,d_model) and the state after it."""
        state = self._checked(u_t, "b", state)
        z, xBC, dt = self.project(u_t)
        convolved, window = self.conv1d.step(xBC, state.conv_window)
        terms = self.discretise(convolved, dt)
        y, ssm_state = scan.advance(terms.x_dt, terms.log_decay, terms.B, terms.C, state.ssm_state)
        return self.out(self.gate(self.skip(y, terms.x), z)), LayerState(window, ssm_state)

    def initial_state(self, batch_size: int) -> LayerState:
        """What stands before the first token: an empty window, and a zero (or learned) state."""
        weight, shapes = next(self.parameters()), self.state_shapes(batch_size)
        accumulate = torch.promote_types(weight.dtype, torch.float32)
        window = torch.zeros(shapes["conv_window"], dtype=weight.dtype, device=weight.device)
        if self.init_states is not None:
            return LayerState(window, self.init_states.to(accumulate).expand(shapes["ssm_state"]))
        return LayerState(window, torch.zeros(shapes["ssm_state"], dtype=accumulate, device=weight.device))

    def state_shapes(self, batch_size: int) -> dict[str, Shape]:
        """The shapes of a `LayerState`, by name."""
        config = self.config
        return {
            "conv_window": (batch_size, config.d_conv - 1, config.conv_dim),
            "ssm_state": (batch_size, config.nheads, config.headdim, config.d_state),
        }

    # The steps. Each takes (b,l,...) or, for one token, (b,...).

    def project(self, u: Tensor) -> Projected:
        """One matrix makes everything a token needs: gate, convolution inputs, step size."""
        config = self.config
        return Projected(*self.in_proj(u).split([config.d_inner, config.conv_dim, config.nheads], dim=-1))

    def convolve(self, xBC: Tensor, window: Tensor, document_ids: Tensor | None = None) -> Tensor:
        """Mix each channel with its last d_conv-1 values: (b,l,conv_dim) -> (b,l,conv_dim)."""
        return self.conv1d(xBC, window, document_ids)

    def discretise(self, xBC: Tensor, dt: Tensor, lengths: Tensor | None = None) -> Discretised:
        """Split x, B, C into heads and groups, and turn the raw step size into Delta and the log decay Delta * A."""
        config = self.config
        x, B, C = xBC.split([config.d_inner, config.ngroups * config.d_state, config.ngroups * config.d_state], dim=-1)
        dt = self._step_size(dt)
        if lengths is not None:  # after the clamp: a lower dt_limit must not set time going again
            dt = dt.masked_fill(is_padding(lengths, dt.shape[1]).unsqueeze(-1), 0.0)
        A = -torch.exp(self.A_log.to(dt.dtype))
        B, C = (part.unflatten(-1, (config.ngroups, config.d_state)) for part in (B, C))
        return Discretised(x.unflatten(-1, (config.nheads, config.headdim)), dt, dt * A, B, C)

    def _step_size(self, dt: Tensor) -> Tensor:
        dt = F.softplus(dt.to(torch.promote_types(dt.dtype, torch.float32)) + self.dt_bias)
        limit = self.config.dt_limit
        return dt if limit == (0.0, float("inf")) else dt.clamp(*limit)

    def skip(self, y: Tensor, x: Tensor) -> Tensor:
        """Add D x, what passes by the state, and lay the heads side by side: (b,l,h,p) -> (b,l,d_inner)."""
        return torch.addcmul(y, x, self.D.to(y.dtype).unsqueeze(-1)).flatten(-2)

    def gate(self, y: Tensor, z: Tensor) -> Tensor:
        """Normalise and gate: (b,l,d_inner) twice -> (b,l,d_inner)."""
        return self.norm(y, z)

    def out(self, y: Tensor) -> Tensor:
        """Back to the residual stream: (b,l,d_inner) -> (b,l,d_model)."""
        return self.out_proj(y)


@dataclass(frozen=True)
class LayerState(State):
    """What a `Mamba2` remembers.

    conv_window: (b, d_conv-1, conv_dim), the convolution's last inputs, oldest first, zero before the first token.
    ssm_state: (b,h,p,n), the state of the recurrence, float32 whatever the dtype of the weights.
    """

    memory, by_head, windows = "ssm_state", ("ssm_state",), ("conv_window",)

    conv_window: Tensor
    ssm_state: Tensor


class Projected(NamedTuple):
    """What in_proj makes of each token, in the official order."""

    z: Tensor  # (b,l,d_inner) the gate
    xBC: Tensor  # (b,l,conv_dim) what goes through the convolution
    dt: Tensor  # (b,l,h) the raw step size


class Discretised(NamedTuple):
    """The arguments of the scan, and Delta itself."""

    x: Tensor  # (b,l,h,p) before it is scaled by dt: the skip connection needs it
    dt: Tensor  # (b,l,h) Delta >= 0, float32
    log_decay: Tensor  # (b,l,h) dt * A <= 0, float32
    B: Tensor  # (b,l,g,n)
    C: Tensor  # (b,l,g,n)

    @property
    def x_dt(self) -> Tensor:
        """What is written: x * dt, in float32."""
        return self.x * self.dt.unsqueeze(-1)


@operation
def scan_and_skip(mixer: Mamba2, terms: Discretised, state: Tensor, ids: Tensor | None) -> tuple[Tensor, Tensor]:
    """From the state before a sequence to what it reads (b,l,d_inner), with what passes by, and the state after it."""
    given = (terms.x_dt, terms.log_decay, terms.B, terms.C, state)
    y, state = scan.chunked(*given, mixer.config.chunk_size, document_ids=ids)
    return mixer.skip(y, terms.x), state
