"""The settings of a training: what they mean, what they may be, and which of them may change in the middle."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from mamba2_lab.checks import Refusal, require, require_number, require_whole

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # our names: accelerate's
_MAY_BE_ZERO = ("warmup_steps", "final_share", "weight_decay", "save_every", "evaluate_every", "lora")
_COUNTS = ("steps", "batch_size", "length", "warmup_steps", "accumulation", "save_every", "evaluate_every", "lora")
_AT_MOST = {  # what torch can still compute with
    **dict.fromkeys(_COUNTS, 2_000_000_000),
    "seed": 8_000_000_000_000,
    "learning_rate": math.inf,  # less, by betas
    "weight_decay": 1_000_000,
    "final_share": 1,
    "clip_norm": math.inf,  # which clips nothing
}
MAY_CHANGE = ("steps", "save_every", "evaluate_every", "evaluate_first", "checkpoint_blocks")  # when a run is resumed


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    steps, batch_size, length: that many updates on that many windows of that many tokens, all processes together.
    learning_rate: its peak, reached after warmup_steps, then falling along a cosine to final_share of it.
    betas, weight_decay, clip_norm: of AdamW, and of the gradient.
    seed: of the windows drawn.
    precision: "fp32", "bf16" or "fp16", of the matrix products; weights, states and decays stay float32.
    accumulation: parts into which a batch is cut to save memory; their gradients are added up.
    checkpoint_blocks: recompute each block in the backward pass instead of keeping what it computed.
    compile: let torch.compile fuse what it can; the first step then takes a minute or more.
    save_every, evaluate_every: steps between checkpoints, and between measurements; 0 is at the end only.
    evaluate_first: measure before the first step too, to see what a model could do before.
    lora: rank of the adapters that are trained in the place of the weights, see `training/lora.py`; 0 trains weights.

    Raises:
        TypeError, ValueError: naming the setting, what was expected and what came.
    """

    steps: int = 200
    batch_size: int = 8
    length: int = 256
    learning_rate: float = 3e-3
    warmup_steps: int = 20
    final_share: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    seed: int = 0
    precision: str = "fp32"
    accumulation: int = 1
    checkpoint_blocks: bool = False
    compile: bool = False
    save_every: int = 0
    evaluate_every: int = 0
    evaluate_first: bool = False
    lora: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name not in _AT_MOST:
                continue
            check = require_whole if isinstance(field.default, int) else require_number
            check(field.name, value := getattr(self, field.name))
            if field.name in _MAY_BE_ZERO:
                require(value >= 0, field.name, "0 or more", value)
            elif field.name != "seed":
                require(value > 0, field.name, "above 0", value)
            most = _AT_MOST[field.name]
            require(value <= most, field.name, f"at most {most:,}", value)
        require(self.seed >= -_AT_MOST["seed"], "seed", f"at least {-_AT_MOST['seed']:,}", self.seed)
        for name in ("checkpoint_blocks", "compile", "evaluate_first"):
            if not isinstance(value := getattr(self, name), bool):
                raise TypeError(Refusal(name, "True or False", value))
        object.__setattr__(self, "betas", _as_betas(self.betas))
        most = 1e38 * (1 - self.betas[0])  # AdamW divides by the second factor, and float32 ends at 3e38
        require(self.learning_rate <= most, "learning_rate", f"at most {most:.3g}", self.learning_rate)
        require(self.precision in [*PRECISIONS], "precision", f"one of {', '.join(PRECISIONS)}", self.precision)
        divides = self.batch_size % self.accumulation == 0
        require(divides, "accumulation", f"a divisor of `batch_size` = {self.batch_size}", self.accumulation)


def _as_betas(value: Any) -> tuple[float, float]:
    try:
        first, second = value
        pair = all(isinstance(beta, int | float) and not isinstance(beta, bool) for beta in value)
    except (TypeError, ValueError):
        pair = False
    if not pair:
        raise TypeError(Refusal("betas", "a pair of numbers", value))
    require(0 <= first < 1 and 0 <= second < 1, "betas", "two numbers from 0 up to, but not, 1", value)
    return float(first), float(second)
