"""What a small model remembers of a few tokens, and whether two memories are the same."""

from __future__ import annotations

import torch
from support.small_models import random_ids, small_model
from torch import Tensor

from mamba2_lab import Mamba2Cache, Mamba2LM

MODEL = small_model(ngroups=2).cpu().double()


@torch.no_grad()
def cache_after(l: int = 9, b: int = 1, seed: int = 0, model: Mamba2LM = MODEL) -> Mamba2Cache:
    return model.prefill(random_ids(b, l, seed=seed), model.new_cache(b))[1]


def assert_identical(one: Mamba2Cache, other: Mamba2Cache) -> None:
    for a, b in zip(tensors(one), tensors(other), strict=True):
        assert torch.equal(a, b) and a.dtype == b.dtype


def tensors(cache: Mamba2Cache) -> list[Tensor]:
    return [part for layer in cache.layers for part in vars(layer).values()] + [cache.tokens_read]
