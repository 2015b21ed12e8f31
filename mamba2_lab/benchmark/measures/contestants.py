"""What the measures have in common: who is timed, and on which model and tokens."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mamba2_lab.benchmark.clock import Work
from mamba2_lab.config import Mamba2Config
from mamba2_lab.mamba2_lm import Mamba2LM

Contestants = dict[str, Work]


def new_model(preset: str, device: torch.device | str, **shape: Any) -> Mamba2LM:
    """A model with the weights that it begins with, the same ones each time."""
    return Mamba2LM(Mamba2Config.preset(preset, **shape), seed=0, device=device).eval()


def random_ids(preset: str, shape: tuple[int, int], device: torch.device | str, **changes: Any) -> Tensor:
    """Tokens (b,l) for that model to read, the same ones each time."""
    vocab_size = Mamba2Config.preset(preset, **changes).vocab_size
    return torch.randint(0, vocab_size, shape, generator=torch.Generator("cpu").manual_seed(0)).to(device)


def ours(model: Mamba2LM, work: Callable[[Mamba2LM], Work], compiled: bool) -> Contestants:
    """The work of a model; or of a compiled one with the very same weights, and beside it of the one as written."""
    if not compiled:
        return {"ours": work(model)}
    twin = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    twin.compile()
    return {"ours": work(twin), "ours, as written": work(model)}


def peer_of(model: Mamba2LM) -> Any:
    """transformers' model with the same weights, and chunks as long as its own default has them: 256.

    It runs in this process, and so under `mamba2-lab bench` where freed memory is kept: faster than alone.
    """
    from transformers import Mamba2Config as TheirConfig

    theirs: Any = model.to_transformers()
    for layer in theirs.backbone.layers:
        layer.mixer.chunk_size = TheirConfig().chunk_size
    return theirs


def in_a_row(work: Work, count: int) -> Work:
    """So many times the work, in one call."""

    def several() -> object:
        for _ in range(count - 1):
            work()
        return work()

    return several


def without_gradients(contestants: Contestants) -> Contestants:
    """The same, each called without recording anything for a backward pass."""
    return {name: torch.no_grad()(work) for name, work in contestants.items()}
