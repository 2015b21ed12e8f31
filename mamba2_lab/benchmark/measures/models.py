"""Whole models: reading a prompt, writing token by token, and what is kept of a text."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from mamba2_lab.benchmark.clock import Work
from mamba2_lab.benchmark.measures.contestants import (
    Contestants,
    in_a_row,
    new_model,
    ours,
    peer_of,
    random_ids,
    without_gradients,
)
from mamba2_lab.benchmark.neighbour import Neighbour
from mamba2_lab.config import Mamba2Config
from mamba2_lab.machine import threads
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.model import Mamba2Cache

STEPS = 8  # of decoding in one call: a step follows a step, and finds in the caches what that one left
MANY_STEPS = 100  # in one call beside a busy process, which is noticed after a quarter of a second


def prefill(device: torch.device | str, *, preset: str = "130m", l: int = 1024, compiled: bool = False) -> Contestants:
    """Reading a prompt, and the logits after it; and the model's matrix products alone."""
    model, ids = new_model(preset, device), random_ids(preset, (1, l), device)
    theirs = peer_of(model)
    return without_gradients(
        {
            **ours(model, lambda model: lambda: model.prefill(ids), compiled),
            "transformers": lambda: theirs(ids, logits_to_keep=1, use_cache=True),
            "matrix products": matrix_products(model, l),
        }
    )


def decode(device: torch.device | str, *, preset: str = "130m", compiled: bool = False, **shape: Any) -> Contestants:
    """One token after another at batch 1; the model's matrix products alone; and reading all their weights once."""
    model, ids = new_model(preset, device, **shape), random_ids(preset, (1, 8), device, **shape)
    theirs = peer_of(model)
    with torch.no_grad():
        _, cache = model.prefill(ids)
        their_cache = theirs(ids, use_cache=True).cache_params

    works = {
        **ours(model, lambda model: step_after_step(model, ids[:, 0], cache), compiled),
        "transformers": lambda: theirs(ids[:, :1], cache_params=their_cache, use_cache=True),
        "matrix products": matrix_products(model, 1),
        "weights read once": _reading_of_weights(model),
    }
    return without_gradients({name: in_a_row(work, STEPS) for name, work in works.items()})


def matrix_products(model: MambaLM, l: int) -> Work:
    """The projections of all layers on l tokens, and the head on one: the arithmetic that no formulation spares."""
    u, inner = (
        torch.randn(l, projection.in_features, device=model.device, dtype=model.dtype)
        for projection in (model.blocks[0].mixer.in_proj, model.blocks[0].mixer.out_proj)
    )

    def work() -> None:
        for block in model.blocks:
            block.mixer.in_proj(u)
            block.mixer.out_proj(inner)
        model.lm_head(u[:1])

    return work


def _reading_of_weights(model: MambaLM) -> Work:
    """A sum over each matrix that a token is multiplied with: torch reads it with all threads."""
    mixers = [block.mixer for block in model.blocks]
    matrices = [matrix.weight for mixer in mixers for matrix in (mixer.in_proj, mixer.out_proj)]
    return lambda: [weight.sum() for weight in (*matrices, model.lm_head.weight)]


def step_after_step(model: MambaLM, tokens: Tensor, cache: Mamba2Cache) -> Work:
    """Each call reads the tokens (b,) from where the last one left off."""

    def step() -> tuple[Tensor, Mamba2Cache]:
        nonlocal cache
        logits, cache = model.step(tokens, cache)
        return logits, cache

    return step


def beside(device: torch.device | str, *, preset: str = "medium") -> Contestants:
    """One token after another: alone, beside a process that keeps torch busy, and there with one thread alone.

    One thread loses no more than the share of its core that the other process takes.
    """
    model, ids = new_model(preset, device), random_ids(preset, (1, 8), device)
    with torch.no_grad():
        _, cache = model.prefill(ids)
    write = torch.no_grad()(in_a_row(step_after_step(model, ids[:, 0], cache), MANY_STEPS))
    neighbour = Neighbour()
    return {
        "alone": write,
        "beside a busy process": lambda: neighbour.beside(write),
        "there, one thread": lambda: neighbour.beside(partial(threads.at_most, 1, write)),
    }


def reading(
    device: torch.device | str, *, preset: str = "small", b: int = 1, l: int = 512, dtype: str = "float32"
) -> Contestants:
    """Logits at every position; the time to a first token that the CPU has in hand; and one token more."""
    model = new_model(preset, device).to(getattr(torch, dtype))
    ids = random_ids(preset, (b, l), device)
    with torch.no_grad():
        _, cache = model.prefill(ids)
    return without_gradients(
        {
            "forward": lambda: model(ids),
            "first token": lambda: model.prefill(ids)[0].argmax(dim=-1).cpu(),
            "step": lambda: model.step(ids[:, 0], cache),
        }
    )


def after_reading(device: torch.device | str, *, preset: str = "medium", l: int = 1024) -> Contestants:
    """One more token after l of them: from a state, and from the KV cache of a transformer with as many weights.

    The transformer is transformers' Llama with random weights. Each step is taken back, so that its cache
    holds l tokens at the next.
    """
    model, ids = new_model(preset, device), random_ids(preset, (1, l), device)
    llama = new_llama(preset, device)
    with torch.no_grad():
        _, state = model.prefill(ids)
        kept = llama(ids, use_cache=True, logits_to_keep=1).past_key_values

    def attend() -> Tensor:
        logits = llama(ids[:, :1], past_key_values=kept, use_cache=True).logits
        kept.crop(-1)
        return logits

    return without_gradients({"state": lambda: model.step(ids[:, 0], state), "KV cache": attend})


def kept_bytes(device: torch.device | str, *, preset: str = "medium", l: int = 1024) -> dict[str, int]:
    """What the contestants of `after_reading` keep of l tokens, in bytes, counted in the caches themselves."""
    llama = new_llama(preset, device)
    with torch.no_grad():
        kept = llama(random_ids(preset, (1, l), device), use_cache=True, logits_to_keep=1).past_key_values
    keys_and_values = sum(layer.keys.nbytes + layer.values.nbytes for layer in kept.layers)
    return {"state": new_model(preset, "meta").new_cache().nbytes, "KV cache": keys_and_values}


def new_llama(preset: str, device: torch.device | str) -> Any:
    from mamba2_lab.yardsticks.transformer import Transformer

    llama: Any = Transformer(Mamba2Config.preset(preset).vocab_size, seed=0).llama
    return llama.to(device).eval()
