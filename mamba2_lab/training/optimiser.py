"""AdamW: which weights it pulls to zero, and how fast it learns at each step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.training.settings import TrainingConfig
from mamba2_lab.weights.stored import require_floats


def adamw(model: MambaLM, config: TrainingConfig) -> torch.optim.AdamW:
    """The optimiser of a training."""
    return torch.optim.AdamW(
        parameter_groups(model, config.weight_decay),
        betas=config.betas,
        fused=model.device.type == "cuda",  # one kernel for all parameters; on mps that is not to be trusted
    )


def parameter_groups(model: MambaLM, weight_decay: float) -> list[dict[str, object]]:
    """Two groups for an optimiser: with weight decay, and without it those that set time scales and states.

    Which these are a mixer says itself, by their names: `no_weight_decay` of Mamba-2 holds dt_bias, A_log, D and the
    initial states.
    """
    require_floats(model, "be trained")
    spared = {
        parameter
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if name in getattr(module, "no_weight_decay", ())
    }
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for parameter in model.parameters():
        groups[parameter not in spared].append(parameter)
    return [{"params": groups[True], "weight_decay": weight_decay}, {"params": groups[False], "weight_decay": 0.0}]


def learning_rate(step: int, config: TrainingConfig) -> float:
    """A linear rise to the peak, then half a cosine down to final_share of it."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    above = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.learning_rate * (config.final_share + (1 - config.final_share) * above)
