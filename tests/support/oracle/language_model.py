"""A whole language model in float64, of any mixers: embedding, blocks, norm, head, each written from its formula.

The mixers are the oracles beside this file. Plain numpy, nothing imported from the package; weights come as a state
dict, and what a layer has (an MLP, a norm with a bias) is read off the names in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from support.oracle import attention, mamba1, mamba2, mamba3
from support.oracle.mamba2 import Array, array
from torch import Tensor

MIXERS: Mapping[str, ModuleType] = {"mamba1": mamba1, "mamba2": mamba2, "mamba3": mamba3, "attention": attention}


class Layer(NamedTuple):
    """Which mixer a layer has, and what cannot be read off the shapes of its weights."""

    mixer: str
    settings: Mapping[str, Any]


def language_model(
    weights: Mapping[str, Tensor],
    input_ids: Tensor,
    layers: Sequence[Layer],
    *,
    vocab_size: int,
    norm_eps: float = 1e-5,
) -> Tensor:
    """Logits (b,l,vocab_size) of tokens (b,l), read from the beginning."""
    u = array(weights["embedding.weight"])[input_ids.cpu().numpy()]
    for i, layer in enumerate(layers):
        block = _inside(weights, f"layers.{i}.")
        own = _inside(block, "mixer.")
        y, _ = MIXERS[layer.mixer].mixer(own, torch.from_numpy(_norm(block, "norm", u, norm_eps)), **layer.settings)
        u = u + y.numpy()
        if "norm2.weight" in block:
            u = u + attention.mlp(_inside(block, "mlp."), torch.from_numpy(_norm(block, "norm2", u, norm_eps))).numpy()
    logits = _norm(weights, "norm_f", u, norm_eps) @ array(weights["lm_head.weight"]).T
    return torch.from_numpy(logits[..., :vocab_size])


def _inside(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def _norm(weights: Mapping[str, Tensor], name: str, u: Array, eps: float) -> Array:
    """RMSNorm; LayerNorm, if it has a bias."""
    weight = array(weights[f"{name}.weight"])
    if f"{name}.bias" not in weights:
        return u / np.sqrt((u**2).mean(-1, keepdims=True) + eps) * weight
    u = u - u.mean(-1, keepdims=True)
    return u / np.sqrt((u**2).mean(-1, keepdims=True) + eps) * weight + array(weights[f"{name}.bias"])
