"""What a Mamba-2 is made of: one dataclass with the official field names, and the presets."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from mamba2_lab.checks import require, require_number, require_whole
from mamba2_lab.config.presets import PRESETS


@dataclass(frozen=True)
class Mamba2Config:
    """The shape and the initialisation of a Mamba-2 language model.

    Field names are those of the official code (state-spaces/mamba, `Mamba2` and `MambaConfig`), so a number found
    in a paper or a config file goes where its name says.

    Sizes
        d_model: width of the residual stream.
        n_layer: number of blocks.
        vocab_size: number of tokens; the embedding has `padded_vocab_size` rows.
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
        tie_embeddings: the output head shares the embedding's weights.
        norm_eps: epsilon of every RMSNorm.
        pad_vocab_size_multiple: the embedding's rows are rounded up to a multiple of it.

    Raises:
        TypeError, ValueError: naming the field, what was expected, and the value that came.
    """

    d_model: int = 256
    n_layer: int = 4
    vocab_size: int = 257
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
    tie_embeddings: bool = True
    norm_eps: float = 1e-5
    pad_vocab_size_multiple: int = 8

    def __post_init__(self) -> None:
        for name in _COUNTS:
            require_whole(name, value := getattr(self, name))
            require(value >= 1, name, "at least 1", value)
            require(value <= LARGEST_COUNT, name, f"at most {LARGEST_COUNT}", value)
        for name in _SWITCHES:
            if not isinstance(value := getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False; got {value!r}")
        for name in _POSITIVE:
            require_number(name, value := getattr(self, name))
            require(0 < value < math.inf, name, "a finite number above 0", value)
        for name in ("A_init_range", "dt_limit"):
            object.__setattr__(self, name, _as_range(name, getattr(self, name)))
        self._check_sizes()
        self._check_ranges()

    def _check_sizes(self) -> None:
        if self.d_inner % self.headdim:
            raise ValueError(
                f"headdim must divide expand * d_model = {self.expand} * {self.d_model} = {self.d_inner}; "
                f"got {self.headdim}"
            )
        if self.nheads % self.ngroups:
            raise ValueError(
                f"ngroups must divide the number of heads, expand * d_model / headdim = {self.nheads}; "
                f"got {self.ngroups}"
            )

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

    @property
    def padded_vocab_size(self) -> int:
        """vocab_size rounded up to a multiple of pad_vocab_size_multiple: rows of the embedding."""
        return -(-self.vocab_size // self.pad_vocab_size_multiple) * self.pad_vocab_size_multiple

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Mamba2Config:
        """The named preset, with any field replaced: `Mamba2Config.preset("small", n_layer=2)`."""
        require(name in PRESETS, "preset", f"one of {', '.join(PRESETS)}", name)
        return cls.from_dict({**PRESETS[name], **changes})

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Mamba2Config:
        """The inverse of `to_dict`; an unknown field is an error, not a shrug."""
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise ValueError(f"unknown config field {unknown[0]!r}; the fields are {', '.join(known)}")
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """All fields by name."""
        return dataclasses.asdict(self)

    def mixer_fields(self) -> dict[str, Any]:
        """The fields that one `Mamba2` mixer takes: all but those of the model around it."""
        return {name: value for name, value in self.to_dict().items() if name not in _MODEL_FIELDS}


LARGEST_COUNT = 2**31 - 1  # two of them can be multiplied in 64 bits
_COUNTS = (
    "d_model",
    "n_layer",
    "vocab_size",
    "d_state",
    "d_conv",
    "expand",
    "headdim",
    "ngroups",
    "chunk_size",
    "pad_vocab_size_multiple",
)
_MODEL_FIELDS = ("n_layer", "vocab_size", "tie_embeddings", "pad_vocab_size_multiple")
_POSITIVE = ("dt_min", "dt_max", "dt_init_floor", "norm_eps")
_SWITCHES = ("bias", "conv_bias", "norm_before_gate", "learnable_init_states", "tie_embeddings")


def _as_range(name: str, value: Any) -> tuple[float, float]:
    try:
        low, high = value
        require_number(name, low)
        require_number(name, high)
        low, high = float(low), float(high)
    except (TypeError, ValueError, OverflowError):  # OverflowError: no float holds 10**400
        raise TypeError(f"{name} must be a pair (low, high) of numbers; got {value!r}") from None
    require(low <= high, name, "a pair (low, high) with low <= high", value)
    return low, high
