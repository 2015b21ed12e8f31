"""Models of a few thousand weights, for tests."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from support.devices import DEVICE
from torch import nn

from mamba2_lab import Mamba2Config, Mamba2LM, MambaConfig, MambaLM

Model = TypeVar("Model", bound=nn.Module)

SMALL = {"d_model": 16, "n_layer": 2, "vocab_size": 257, "d_state": 8, "headdim": 8, "chunk_size": 4}
SMALL_MIXERS: dict[str, dict[str, Any]] = {
    "mamba1": {"d_state": 4},
    "mamba2": {"d_state": 8, "headdim": 8, "chunk_size": 4},
    "mamba3": {"d_state": 8, "headdim": 8, "chunk_size": 4},
    "attention": {"num_heads": 4, "rotary_emb_dim": 4},
}


def small_model(seed: int = 0, spread: float = 0.3, **changes: Any) -> Mamba2LM:
    """Every weight random: a fresh model has ones, zeros and tiny embeddings, which hide mistakes and always repeat."""
    model = Mamba2LM(Mamba2Config.from_dict({**SMALL, **changes}), seed=seed)
    return spread_out(model, seed, spread).to(DEVICE).eval()


def random_ids(*shape: int, vocab_size: int = 257, seed: int = 0) -> torch.Tensor:
    """Token ids drawn from a seed."""
    return torch.randint(0, vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def small_stack(mixers: str | list[str], seed: int = 0, spread: float = 0.3, **fields: Any) -> MambaLM:
    """The same of any mixers, on the CPU and in float64; fields of a mixer by its name, others of the model."""
    kinds = {mixers} if isinstance(mixers, str) else set(mixers)
    given = {kind: {**SMALL_MIXERS[kind], **fields.pop(kind, {})} for kind in kinds}
    n_layer = 2 if isinstance(mixers, str) else len(mixers)
    config = {"d_model": 16, "n_layer": n_layer, "vocab_size": 257, "mixers": mixers, **fields}
    model = MambaLM(MambaConfig.from_dict({**config, **given}), seed=seed)
    return spread_out(model, seed, spread).double().eval()


def spread_out(model: Model, seed: int, spread: float) -> Model:
    """The same model with something random added to every weight."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += spread * torch.randn(parameter.shape, generator=generator)
    return model
