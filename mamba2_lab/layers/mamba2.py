"""The Mamba-2 block: a chain of small named steps around the scan.

    project -> convolve -> discretise -> scan -> gate -> out

Shapes: b batch, l length, d d_model, h heads, p headdim, g groups, n d_state; d_inner = h p.
Parameter names and layouts are those of the official code (state-spaces/mamba, modules/mamba2.py), so that weights
move between the two without a change. Padding has one form here: real tokens first, `lengths` (b,) of them in each
row; at the rest Delta is 0, so time stands still and the state passes through. `Mamba2LM` brings any mask into it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba2_lab import scan
from mamba2_lab.config import Mamba2Config
from mamba2_lab.layers.convolution import CausalConv
from mamba2_lab.layers.linear import Projection
from mamba2_lab.layers.mixer import LayerState
from mamba2_lab.layers.norm import GatedRMSNorm


def _ids_through_padding(document_ids: Tensor, lengths: Tensor) -> Tensor:
    """Ids with padding given to the row's last document: another id there would restart the state left behind."""
    position = torch.arange(document_ids.shape[1], device=document_ids.device)
    last = (lengths - 1).clamp(min=0)
    return document_ids.gather(1, torch.minimum(position, last[:, None]))


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


class Mamba2(nn.Module):
    """The Mamba-2 mixer: (b,l,d_model) -> (b,l,d_model), in time linear in l.

    Arguments are fields of `Mamba2Config`, which checks them; section references are there.

    >>> mixer = Mamba2(d_model=256)
    >>> mixer(torch.randn(1, 10, 256)).shape
    torch.Size([1, 10, 256])
    """

    # Parameters that set time scales and passes: pulling them to zero with weight decay would pull at the memory.
    no_weight_decay = ("dt_bias", "A_log", "D", "init_states")

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        d_conv: int = 4,
        expand: int = 2,
        headdim: int = 128,
        ngroups: int = 1,
        A_init_range: tuple[float, float] = (1.0, 16.0),
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_limit: tuple[float, float] = (0.0, math.inf),
        chunk_size: int = 64,
        bias: bool = False,
        conv_bias: bool = True,
        norm_before_gate: bool = False,
        learnable_init_states: bool = False,
        dt_init_floor: float = 1e-4,
        norm_eps: float = 1e-5,
        *,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.config = config = Mamba2Config(
            d_model=d_model,
            d_state=d_state,
            d_conv=d_conv,
            expand=expand,
            headdim=headdim,
            ngroups=ngroups,
            A_init_range=A_init_range,
            dt_min=dt_min,
            dt_max=dt_max,
            dt_limit=dt_limit,
            chunk_size=chunk_size,
            bias=bias,
            conv_bias=conv_bias,
            norm_before_gate=norm_before_gate,
            learnable_init_states=learnable_init_states,
            dt_init_floor=dt_init_floor,
            norm_eps=norm_eps,
        )
        d_in_proj = config.d_inner + config.conv_dim + config.nheads
        self.in_proj = Projection(d_model, d_in_proj, bias=bias, device=device)
        self.conv1d = CausalConv(config.conv_dim, d_conv, bias=conv_bias, device=device)
        self.dt_bias = nn.Parameter(_inverse_softplus(_draw_dt(config, device)))
        self.A_log = nn.Parameter(torch.log(_draw_uniform(config.nheads, *config.A_init_range, device)))
        self.D = nn.Parameter(torch.ones(config.nheads, device=device))
        self.norm = GatedRMSNorm(config.d_inner, norm_eps, ngroups, norm_before_gate, device=device)
        self.out_proj = Projection(config.d_inner, d_model, bias=bias, device=device)
        self.init_states = (
            nn.Parameter(torch.zeros(config.nheads, headdim, d_state, device=device)) if learnable_init_states else None
        )

    def forward(self, u: Tensor, *, lengths: Tensor | None = None, document_ids: Tensor | None = None) -> Tensor:
        """The whole sequence at once: u (b,l,d_model) -> (b,l,d_model). Arguments as for `prefill`."""
        return self.prefill(u, lengths=lengths, document_ids=document_ids)[0]

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
            ValueError: naming the argument, the expected shape and what came; and for document_ids in a model with
                learnable initial states, where only the first document would start from them.
        """
        self._check_input(u, 3)
        if document_ids is not None and self.init_states is not None:
            raise ValueError(
                "document_ids cannot be used with learnable_init_states=True: give each document its own row"
            )
        if document_ids is not None and lengths is not None:
            document_ids = _ids_through_padding(document_ids, lengths)
        state = self.initial_state(u.shape[0]) if state is None else state
        self.check_state(state, u.shape[0])
        state = state.for_backward()
        z, xBC, dt = self.project(u)
        convolved = self.convolve(xBC, state.conv_window, document_ids)
        terms = self.discretise(convolved, dt, lengths)
        y, ssm_state = scan.chunked(
            terms.x_dt,
            terms.log_decay,
            terms.B,
            terms.C,
            state.ssm_state,
            self.config.chunk_size,
            document_ids=document_ids,
        )
        window = self.conv1d.last_inputs(xBC, state.conv_window, lengths, document_ids)
        return self.out(self.gate(self.skip(y, terms.x), z)), LayerState(window, ssm_state)

    def step(self, u_t: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """One token: u_t (b,d_model) and the state before it -> (b,d_model) and the state after it."""
        self._check_input(u_t, 2)
        self.check_state(state, u_t.shape[0])
        state = state.for_backward()
        z, xBC, dt = self.project(u_t)
        convolved, window = self.conv1d.step(xBC, state.conv_window)
        terms = self.discretise(convolved, dt)
        y, ssm_state = scan.step(terms.x_dt, terms.log_decay, terms.B, terms.C, state.ssm_state)
        return self.out(self.gate(self.skip(y, terms.x), z)), LayerState(window, ssm_state)

    def initial_state(self, batch_size: int) -> LayerState:
        """What stands before the first token: an empty window, and a zero (or learned) state."""
        config, weight = self.config, self.in_proj.weight
        window = torch.zeros(batch_size, config.d_conv - 1, config.conv_dim, dtype=weight.dtype, device=weight.device)
        shape = (batch_size, config.nheads, config.headdim, config.d_state)
        accumulate = torch.promote_types(weight.dtype, torch.float32)
        if self.init_states is not None:
            return LayerState(window, self.init_states.to(accumulate).expand(shape))
        return LayerState(window, torch.zeros(shape, dtype=accumulate, device=weight.device))

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
            padding = torch.arange(dt.shape[1], device=dt.device) >= lengths[:, None]
            dt = dt.masked_fill(padding.unsqueeze(-1), 0.0)
        A = -torch.exp(self.A_log.to(dt.dtype))
        B, C = (part.unflatten(-1, (config.ngroups, config.d_state)) for part in (B, C))
        return Discretised(x.unflatten(-1, (config.nheads, config.headdim)), dt, dt * A, B, C)

    def _step_size(self, dt: Tensor) -> Tensor:
        accumulate = torch.promote_types(dt.dtype, torch.float32)
        dt = F.softplus(dt.to(accumulate) + self.dt_bias.to(accumulate))
        low, high = self.config.dt_limit
        return dt if (low, high) == (0.0, math.inf) else dt.clamp(low, high)

    def skip(self, y: Tensor, x: Tensor) -> Tensor:
        """Add D x, what passes by the state, and lay the heads side by side: (b,l,h,p) -> (b,l,d_inner)."""
        return torch.addcmul(y, x, self.D.to(y.dtype).unsqueeze(-1)).flatten(-2)

    def gate(self, y: Tensor, z: Tensor) -> Tensor:
        """Normalise and gate: (b,l,d_inner) twice -> (b,l,d_inner)."""
        return self.norm(y, z)

    def out(self, y: Tensor) -> Tensor:
        """Back to the residual stream: (b,l,d_inner) -> (b,l,d_model)."""
        return self.out_proj(y)

    def check_state(self, state: LayerState, batch_size: int, name: str = "state") -> None:
        """ValueError, naming it, unless it has the shapes of this mixer's states, that many rows, and its device."""
        config = self.config
        shapes = (
            ("conv_window", state.conv_window, (batch_size, config.d_conv - 1, config.conv_dim)),
            ("ssm_state", state.ssm_state, (batch_size, config.nheads, config.headdim, config.d_state)),
        )
        for part, tensor, shape in shapes:
            if tensor.shape != shape:
                raise ValueError(f"{name}.{part} must have shape {shape}; got {tuple(tensor.shape)}")
            if tensor.device != self.A_log.device:
                raise ValueError(f"{name}.{part} must be on {self.A_log.device}, as the weights; got {tensor.device}")

    def _check_input(self, u: Tensor, ndim: int) -> None:
        expected = ("b,l," if ndim == 3 else "b,") + f"{self.config.d_model}"
        if u.ndim != ndim or u.shape[-1] != self.config.d_model:
            raise ValueError(f"u must have shape ({expected}); got {tuple(u.shape)}")


def _draw_uniform(count: int, low: float, high: float, device: torch.device | str | None) -> Tensor:
    return torch.rand(count, device=device) * (high - low) + low


def _draw_dt(config: Mamba2Config, device: torch.device | str | None) -> Tensor:
    """Log-uniform in dt_min..dt_max: heads begin with time scales spread over two decades."""
    log_dt = _draw_uniform(config.nheads, math.log(config.dt_min), math.log(config.dt_max), device)
    return torch.exp(log_dt).clamp(min=config.dt_init_floor)


def _inverse_softplus(dt: Tensor) -> Tensor:
    """The v with softplus(v) = dt, in the form that keeps small dt exact."""
    return dt + torch.log(-torch.expm1(-dt))
