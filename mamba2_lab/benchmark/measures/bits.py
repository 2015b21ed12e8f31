"""One model with its weights in floats, in 8 bits and in 4: what a token costs, and what is kept of the weights.

What rounding costs in bits per byte is told by pretrained/precisions.py.
"""

from __future__ import annotations

import copy

import torch

from mamba2_lab.benchmark.measures.contestants import Contestants, in_a_row, new_model, random_ids, without_gradients
from mamba2_lab.benchmark.measures.models import STEPS, matrix_products, step_after_step
from mamba2_lab.mamba2_lm import Mamba2LM
from mamba2_lab.weights import with_weights
from mamba2_lab.weights.stored import ROUNDED, stored_bytes


def precisions(device: torch.device | str, *, preset: str = "130m") -> Contestants:
    """One token after another in each precision, and beside it the matrix products of a token alone."""
    works = {}
    for name, model in _models(preset, device).items():
        ids = random_ids(preset, (1, 8), device)
        with torch.no_grad():
            _, cache = model.prefill(ids)
        works[name] = in_a_row(step_after_step(model, ids[:, 0], cache), STEPS)
        works[f"{name}: matrix products"] = in_a_row(matrix_products(model, 1), STEPS)
    return without_gradients(works)


def precisions_bytes(device: torch.device | str, *, preset: str = "130m") -> dict[str, int]:
    """What the weights of each take."""
    return {name: stored_bytes(model) for name, model in _models(preset, device).items()}


def _models(preset: str, device: torch.device | str) -> dict[str, Mamba2LM]:
    model = new_model(preset, device)
    models = {"float32": model, "bfloat16": copy.deepcopy(model).bfloat16()}
    models.update({name: with_weights(model, name) for name in ROUNDED})
    return models
