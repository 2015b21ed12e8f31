"""What a Mamba-2 mixer is made of, under the official names."""

import math
from dataclasses import dataclass

from mamba2_lab.checks import require
from mamba2_lab.config.fields import Fields
from mamba2_lab.config.heads import require_heads


@dataclass(frozen=True)
class Mamba2Fields(Fields):
    """The shape and the initialisation of a `Mamba2`.

    Names are those of the official code (state-spaces/mamba, `Mamba2`), so a number found in a paper or a config file
    goes where its name says.

    Sizes
        d_model: width of the residual stream.
        d_state: N, the length of B and C: how much one head can hold apart.
        d_conv: width of the causal convolution, in tokens.
        expand: d_inner = expand * d_model.
        headdim: P, channels per head; it must divide d_inner.
        ngroups: G, how many (B, C) pairs the heads share; it must divide the number of heads.
        chunk_size: Q, tokens per chunk of the SSD algorithm. A matter of speed: results do not depend on it.

    Initialisation (the official `Mamba2.__init__`)
        A_init_range: A is drawn uniformly from it, then negated.
        dt_min, dt_max: dt is drawn log-uniformly from it; dt_init_floor: its smallest allowed value.

    Variants
        dt_limit: Delta is clamped into it, on every path.
        bias, conv_bias: whether the two projections, and the convolution, have a bias.
        norm_before_gate: norm(y) * silu(z) instead of norm(y * silu(z)).
        learnable_init_states: each layer learns the state from which a sequence starts.
        norm_eps: epsilon of the norm.
    """

    d_model: int = 256
    d_state: int = 64
    d_conv: int = 4
    expand: int = 2
    headdim: int = 128
    ngroups: int = 1
    chunk_size: int = 64
    A_init_range: tuple[float, float] = (1.0, 16.0)
    dt_min: float = 0.001
    dt_max: float = 0.1
    dt_init_floor: float = 1e-4
    dt_limit: tuple[float, float] = (0.0, math.inf)
    bias: bool = False
    conv_bias: bool = True
    norm_before_gate: bool = False
    learnable_init_states: bool = False
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_heads(self.expand, self.d_model, self.headdim, self.ngroups)
        self._check_ranges()

    def _check_ranges(self) -> None:
        low, high = self.A_init_range
        require(0 < low and high < math.inf, "A_init_range", "0 < low <= high < inf", self.A_init_range)
        require(self.dt_limit[0] >= 0, "dt_limit", "0 <= low <= high", self.dt_limit)
        require(self.dt_max >= self.dt_min, "dt_max", f"at least `dt_min` = {self.dt_min}", self.dt_max)

    @property
    def d_inner(self) -> int:
        """Width inside the block: expand * d_model."""
        return self.expand * self.d_model

    @property
    def nheads(self) -> int:
        """H, the number of heads: d_inner / headdim."""
        return self.d_inner // self.headdim

    @property
    def conv_dim(self) -> int:
        """Channels that pass through the convolution: x, B and C together."""
        return self.d_inner + 2 * self.ngroups * self.d_state
