"""What a Mamba-3 mixer is made of, under the official names."""

from dataclasses import dataclass
from typing import Literal

from mamba2_lab.checks import require
from mamba2_lab.config.fields import Fields
from mamba2_lab.config.heads import require_heads


@dataclass(frozen=True)
class Mamba3Fields(Fields):
    """The shape and the initialisation of a `Mamba3`.

    Names are those of the official code (state-spaces/mamba, `Mamba3`), and so are the defaults.

    Sizes
        d_model: width of the residual stream.
        d_state: N, the length of B and C: how much one head can hold apart. Even, for its channels turn in pairs.
        expand: d_inner = expand * d_model.
        headdim: P, channels per head; it must divide d_inner.
        ngroups: G, how many (B, C) pairs the heads share; it must divide the number of heads.
        rope_fraction: the share of the state that turns, 0.5 or 1.0.
        is_mimo: each head reads and writes its state through `mimo_rank` pairs (B, C) at once, instead of one.
        mimo_rank: how many; without is_mimo it is not looked at.
        is_outproj_norm: each head's output is normalised before the gate.
        chunk_size: Q, tokens per chunk of the scan. A matter of speed: results do not depend on it.

    Decay
        A_floor: A is -A_floor at most, so that everything fades.
        A_activation: how a projection becomes -A: "heavy_tail", or "softplus" as in the official code before July 2026.

    Initialisation
        dt_min, dt_max: dt is drawn log-uniformly from it; dt_init_floor: its smallest allowed value.
    """

    d_model: int = 256
    d_state: int = 128
    expand: int = 2
    headdim: int = 64
    ngroups: int = 1
    rope_fraction: float = 0.5
    dt_min: float = 0.001
    dt_max: float = 0.1
    dt_init_floor: float = 1e-4
    A_floor: float = 1e-4
    A_activation: Literal["heavy_tail", "softplus"] = "heavy_tail"
    is_mimo: bool = False
    mimo_rank: int = 4
    is_outproj_norm: bool = False
    chunk_size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        require_heads(self.expand, self.d_model, self.headdim, self.ngroups)
        require(self.rope_fraction in (0.5, 1.0), "rope_fraction", "0.5 or 1.0", self.rope_fraction)
        require(self.d_state % 2 == 0, "d_state", "even: its channels turn in pairs", self.d_state)
        few = (
            f"at least {int(2 / self.rope_fraction)}, so that with `rope_fraction` = {self.rope_fraction} a pair turns"
        )
        require(self.angles >= 1, "d_state", few, self.d_state)
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
    def rank(self) -> int:
        """R, how many pairs (B, C) a head has: mimo_rank under is_mimo, else 1."""
        return self.mimo_rank if self.is_mimo else 1

    @property
    def angles(self) -> int:
        """S, how many pairs of channels turn."""
        return int(self.d_state * self.rope_fraction) // 2
