"""Models of a few thousand weights, for tests."""

from __future__ import annotations

from typing import Any

import torch
from support.devices import DEVICE

from mamba2_lab import Mamba2Config, Mamba2LM

SMALL = {"d_model": 16, "n_layer": 2, "vocab_size": 257, "d_state": 8, "headdim": 8, "chunk_size": 4}


def small_model(seed: int = 0, spread: float = 0.3, **changes: Any) -> Mamba2LM:
    """Every weight random: a fresh model has ones, zeros and tiny embeddings, which hide mistakes and always repeat."""
    model = Mamba2LM(Mamba2Config.from_dict({**SMALL, **changes}), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += spread * torch.randn(parameter.shape, generator=generator)
    return model.to(DEVICE).eval()


def random_ids(*shape: int, vocab_size: int = 257, seed: int = 0) -> torch.Tensor:
    """Token ids drawn from a seed."""
    return torch.randint(0, vocab_size, shape, generator=torch.Generator().manual_seed(seed))
