"""The Mamba-1 mixer: a chain of small named steps around the selective scan.

    project -> convolve -> select -> scan -> gate -> out

Shapes: b batch, l length, d_inner channels, n d_state. Parameter names and layouts are those of the official code
(state-spaces/mamba, modules/mamba_simple.py). Padding and documents are as in `layers/mamba2.py`.

The paper is Gu & Dao 2023, "Mamba: Linear-time sequence modeling with selective state spaces", arXiv:2312.00752.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba2_lab import scan
from mamba2_lab.config import Mamba1Fields
from mamba2_lab.layers.convolution import CausalConv
from mamba2_lab.layers.documents import is_padding, through_padding
from mamba2_lab.layers.linear import Projection, linear
from mamba2_lab.layers.mixer import Mixer, State
from mamba2_lab.layers.step_size import draw_dt_bias
from mamba2_lab.machine.shapes import Shape


class Mamba1(Mixer["Mamba1State"]):
    """The Mamba-1 mixer: (b,l,d_model) -> (b,l,d_model), in time linear in l.

    >>> mixer = Mamba1(d_model=256)
    >>> mixer(torch.randn(1, 10, 256)).shape
    torch.Size([1, 10, 256])

    Args:
        d_model: width of the residual stream.
        fields: the other fields of `Mamba1Fields`, by name; their defaults are there, and what is refused.
    """

    # Parameters that set time scales and passes: pulling them to zero with weight decay would pull at the memory.
    no_weight_decay = ("A_log", "D")

    def __init__(self, d_model: int, *, device: torch.device | str | None = None, **fields: Any) -> None:
        super().__init__()
        self.config = config = Mamba1Fields.from_dict({"d_model": d_model, **fields})
        d_inner, n = config.d_inner, config.d_state
        with torch.device(torch.get_default_device() if device is None else device):
            self.in_proj = Projection(d_model, 2 * d_inner, bias=config.bias)
            self.conv1d = CausalConv(d_inner, config.d_conv, bias=config.conv_bias)
            self.x_proj = Projection(d_inner, config.rank + 2 * n, bias=False)
            self.dt_proj = StepSizes(config.rank, d_inner)
            self.A_log = nn.Parameter(torch.log(torch.arange(1.0, n + 1)).repeat(d_inner, 1))  # S4D-real
            self.D = nn.Parameter(torch.ones(d_inner))
            self.out_proj = Projection(d_inner, d_model, bias=config.bias)
        self._initialise_step_sizes()

    @torch.no_grad()
    def _initialise_step_sizes(self) -> None:
        """dt log-uniform in dt_min..dt_max for a silent input, and of the same spread for any rank otherwise."""
        config, bias = self.config, self.dt_proj.bias
        size = config.dt_scale / math.sqrt(config.rank)
        if config.dt_init == "constant":
            self.dt_proj.weight.fill_(size)
        else:
            self.dt_proj.weight.uniform_(-size, size)
        bias.copy_(draw_dt_bias(len(bias), config.dt_min, config.dt_max, config.dt_init_floor))

    def prefill(
        self,
        u: Tensor,
        state: Mamba1State | None = None,
        *,
        lengths: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> tuple[Tensor, Mamba1State]:
        """As `forward`, from a state to a state: a sequence may be cut anywhere and continued.

        Args:
            u: (b,l,d_model).
            state: what came before; None is the start of a sequence.
            lengths: (b,) number of real tokens, which come first in each row; the rest is padding. None: all real.
            document_ids: (b,l) integers; convolution and state restart where the id changes.

        Returns:
            (b,l,d_model) and the state after the last real token of each row.

        Raises:
            ValueError: for a wrong shape.
        """
        if document_ids is not None and lengths is not None:
            document_ids = through_padding(document_ids, lengths)
        state = self._checked(u, "b,l", state)
        inputs, z = self.project(u)
        x = self.convolve(inputs, state.conv_window, document_ids)
        dt, B, C = self.select(x, lengths)
        given = (x, dt, self.decay_rates(), B, C, self.D, state.ssm_state)
        y, ssm_state = scan.selective(*given, document_ids=document_ids)
        window = self.conv1d.last_inputs(inputs, state.conv_window, lengths, document_ids)
        return self.out(self.gate(y, z)), Mamba1State(window, ssm_state)

    def step(self, u_t: Tensor, state: Mamba1State) -> tuple[Tensor, Mamba1State]:
        """One token: u_t (b,d_model) and the state before it -> (b,d_model) and the state after it."""
        state = self._checked(u_t, "b", state)
        inputs, z = self.project(u_t)
        x, window = self.conv1d.step(inputs, state.conv_window)
        dt, B, C = self.select(x)
        y, ssm_state = scan.selective_advance(x, dt, self.decay_rates(), B, C, self.D, state.ssm_state)
        return self.out(self.gate(y, z)), Mamba1State(window, ssm_state)

    def initial_state(self, batch_size: int) -> Mamba1State:
        """What stands before the first token: an empty window, and a zero state."""
        weight, shapes = next(self.parameters()), self.state_shapes(batch_size)
        accumulate = torch.promote_types(weight.dtype, torch.float32)
        return Mamba1State(
            torch.zeros(shapes["conv_window"], dtype=weight.dtype, device=weight.device),
            torch.zeros(shapes["ssm_state"], dtype=accumulate, device=weight.device),
        )

    def state_shapes(self, batch_size: int) -> dict[str, Shape]:
        """The shapes of a `Mamba1State`, by name."""
        config = self.config
        return {
            "conv_window": (batch_size, config.d_conv - 1, config.d_inner),
            "ssm_state": (batch_size, config.d_inner, config.d_state),
        }

    # The steps. Each takes (b,l,...) or, for one token, (b,...).

    def project(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """What goes through the convolution, and the gate z: (b,l,d_model) -> (b,l,d_inner) twice."""
        inputs, z = self.in_proj(u).chunk(2, dim=-1)
        return inputs, z

    def convolve(self, inputs: Tensor, window: Tensor, document_ids: Tensor | None = None) -> Tensor:
        """Mix each channel with its last d_conv-1 values: (b,l,d_inner) -> x (b,l,d_inner)."""
        return self.conv1d(inputs, window, document_ids)

    def select(self, x: Tensor, lengths: Tensor | None = None) -> Selected:
        """What each token writes with, reads with, and how far it moves time: x (b,l,d_inner) -> Delta, B, C.

        The step sizes of all channels are made from a few numbers, dt_rank of them.
        """
        return self.select_from(self.x_proj(x), lengths)

    def select_from(self, few: Tensor, lengths: Tensor | None = None) -> Selected:
        """`select` from what x_proj has made: (b,l,dt_rank+2n)."""
        config = self.config
        parts = few.split([config.rank, config.d_state, config.d_state], dim=-1)
        dt, B, C = map(self._normalise, parts) if config.b_c_dt_rms else parts
        dt = self.dt_proj(dt)
        accumulate = torch.promote_types(dt.dtype, torch.float32)
        dt = F.softplus(dt.to(accumulate) + self.dt_proj.bias.to(accumulate))  # the bias is added in float32
        if lengths is not None:
            dt = dt.masked_fill(is_padding(lengths, dt.shape[1]).unsqueeze(-1), 0.0)
        return Selected(dt, B, C)

    def _normalise(self, part: Tensor) -> Tensor:
        accumulate = torch.promote_types(part.dtype, torch.float32)
        return F.rms_norm(part.to(accumulate), part.shape[-1:], eps=self.config.b_c_dt_rms_eps).to(part.dtype)

    def decay_rates(self) -> Tensor:
        """A (d_inner,n), how fast each number of each channel fades, for a Delta of 1; negative, float32."""
        return -torch.exp(self.A_log.to(torch.promote_types(self.A_log.dtype, torch.float32)))

    def gate(self, y: Tensor, z: Tensor) -> Tensor:
        """y silu(z): (b,l,d_inner) twice -> (b,l,d_inner)."""
        return y * F.silu(z)

    def out(self, y: Tensor) -> Tensor:
        """Back to the residual stream: (b,l,d_inner) -> (b,l,d_model)."""
        return self.out_proj(y)


class StepSizes(Projection):
    """(b,l,dt_rank) -> (b,l,d_inner), without its bias, which sets time scales: what is called dt_bias in Mamba-2."""

    no_weight_decay = ("bias",)

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, None)


@dataclass(frozen=True)
class Mamba1State(State):
    """What a `Mamba1` remembers.

    A channel is a head by itself, and keeps n numbers.

    conv_window: (b, d_conv-1, d_inner), the convolution's last inputs, oldest first, zero before the first token.
    ssm_state: (b, d_inner, n), the state of the recurrence, float32 whatever the dtype of the weights.
    """

    memory, by_head, windows = "ssm_state", ("ssm_state",), ("conv_window",)

    conv_window: Tensor
    ssm_state: Tensor


class Selected(NamedTuple):
    """What a token chooses for itself."""

    dt: Tensor  # (b,l,d_inner) Delta >= 0, float32
    B: Tensor  # (b,l,n)
    C: Tensor  # (b,l,n)
