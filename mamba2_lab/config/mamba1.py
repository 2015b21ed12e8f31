"""What a Mamba-1 mixer is made of, under the official names."""

import math
from dataclasses import dataclass
from typing import Literal

from mamba2_lab.checks import require
from mamba2_lab.config.fields import Fields


@dataclass(frozen=True)
class Mamba1Fields(Fields):
    """The shape and the initialisation of a `Mamba1`.

    Names are those of the official code (state-spaces/mamba, `Mamba` in modules/mamba_simple.py).

    Sizes
        d_model: width of the residual stream.
        d_state: N, how many numbers each channel keeps.
        d_conv: width of the causal convolution, in tokens.
        expand: d_inner = expand * d_model, the number of channels. FalconMamba-7B says 16 and means 2: its channels are
            8192, its d_model is 4096.
        dt_rank: how many numbers of each token the step sizes of all channels are made from; "auto" is d_model / 16,
            rounded up.

    Initialisation (the official `Mamba.__init__`; A starts as -1..-N in every channel)
        dt_min, dt_max: dt is drawn log-uniformly from it; dt_init_floor: its smallest allowed value.
        dt_init: the matrix that makes the step sizes is drawn uniformly ("random"), or all its numbers are alike
            ("constant"). dt_scale: their size, in units of 1 / sqrt(dt_rank).

    Variants
        bias, conv_bias: whether the two projections, and the convolution, have a bias.
        b_c_dt_rms: dt, B and C are divided by their root mean square before they are used, without weights
            (FalconMamba). b_c_dt_rms_eps: epsilon of these norms.
    """

    d_model: int = 256
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    dt_rank: int | Literal["auto"] = "auto"
    dt_min: float = 0.001
    dt_max: float = 0.1
    dt_init: Literal["random", "constant"] = "random"
    dt_scale: float = 1.0
    dt_init_floor: float = 1e-4
    bias: bool = False
    conv_bias: bool = True
    b_c_dt_rms: bool = False
    b_c_dt_rms_eps: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.dt_max >= self.dt_min, "dt_max", f"at least `dt_min` = {self.dt_min}", self.dt_max)

    @property
    def d_inner(self) -> int:
        """Channels: expand * d_model."""
        return self.expand * self.d_model

    @property
    def rank(self) -> int:
        """dt_rank as a number."""
        return math.ceil(self.d_model / 16) if self.dt_rank == "auto" else self.dt_rank
