"""What is timed: each measure sets up its contestants, which compute the same thing from the same numbers.

A measure is a function of settings that returns contestants by name. "ours" is the code of this package as it stands;
"transformers" its Mamba2 in plain torch, given the same weights; a floor is what the machine would need for the
indispensable part alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab import scan
from mamba2_lab.benchmark.clock import Work
from mamba2_lab.config import Mamba2Config
from mamba2_lab.model import Mamba2LM

Contestants = dict[str, Work]


def scan_forward(
    device: torch.device | str, *, b: int = 1, l: int = 2048, h: int = 24, p: int = 64, g: int = 1, n: int = 128
) -> Contestants:
    """The scan alone, from x, dt, A, B, C in float32: ours, and transformers' with chunks of 64 and of 256."""
    from transformers.models.mamba2 import modeling_mamba2 as peer

    generator = torch.Generator("cpu").manual_seed(0)
    x, B, C = (torch.randn(b, l, *rest, generator=generator).to(device) for rest in ((h, p), (g, n), (g, n)))
    dt = (torch.rand(b, l, h, generator=generator) * 0.1 + 0.001).to(device)
    A = -(torch.rand(h, generator=generator) * 15 + 1).to(device)

    def ours() -> object:
        return scan.chunked(x * dt.unsqueeze(-1), dt * A, B, C)

    def theirs(chunk_size: int) -> Work:
        return lambda: peer.mamba2_chunk_scan(x, dt, A, B, C, chunk_size, return_final_states=True)

    return _without_gradients(
        {"ours": ours, "transformers, chunks of 64": theirs(64), "transformers, chunks of 256": theirs(256)}
    )


def prefill(device: torch.device | str, *, preset: str = "130m", l: int = 1024) -> Contestants:
    """Reading a prompt, and the logits after it; and the model's matrix products alone."""
    model, ids = _model(preset, device), _ids(preset, (1, l), device)
    theirs = model.to_transformers()
    return _without_gradients(
        {
            "ours": lambda: model.prefill(ids),
            "transformers": lambda: theirs(ids, logits_to_keep=1, use_cache=True),
            "matrix products": _matrix_products(model, l),
        }
    )


def _matrix_products(model: Mamba2LM, l: int) -> Work:
    """The projections of all layers on l tokens, and the head on one: the arithmetic that no formulation spares."""
    config = model.config
    u = torch.randn(l, config.d_model, device=model.device, dtype=model.dtype)
    inner = torch.randn(l, config.d_inner, device=model.device, dtype=model.dtype)

    def work() -> None:
        for block in model.blocks:
            F.linear(u, block.mixer.in_proj.weight)
            F.linear(inner, block.mixer.out_proj.weight)
        F.linear(u[:1], model.lm_head.weight)

    return work


def decode(device: torch.device | str, *, preset: str = "130m", **shape: Any) -> Contestants:
    """One more token at batch 1; and reading every weight once, in the products that use it."""
    model, ids = _model(preset, device, **shape), _ids(preset, (1, 8), device, **shape)
    theirs = model.to_transformers()
    token = ids[:, 0]
    with torch.no_grad():
        _, cache = model.prefill(ids)
        their_cache = theirs(ids, use_cache=True).cache_params
    return _without_gradients(
        {
            "ours": lambda: model.step(token, cache),
            "transformers": lambda: theirs(token[:, None], cache_params=their_cache, use_cache=True),
            "weights read once": _matrix_products(model, 1),
        }
    )


def training_step(device: torch.device | str, *, preset: str = "medium", b: int = 4, l: int = 512) -> Contestants:
    """Forward and backward of the next-token loss."""
    model = _model(preset, device)
    theirs = model.to_transformers().train()
    ids = _ids(preset, (b, l + 1), device)

    def step(model: torch.nn.Module, logits_of: Callable[[Tensor], Tensor]) -> Work:
        def work() -> None:
            model.zero_grad(set_to_none=True)
            F.cross_entropy(logits_of(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()

        return work

    return {
        "ours": step(model.train(), model),
        "transformers": step(theirs, lambda ids: theirs(ids, use_cache=False).logits.float()),
    }


def _model(preset: str, device: torch.device | str, **shape: Any) -> Mamba2LM:
    return Mamba2LM(Mamba2Config.preset(preset, **shape), seed=0, device=device).eval()


def _ids(preset: str, shape: tuple[int, int], device: torch.device | str, **changes: Any) -> Tensor:
    vocab_size = Mamba2Config.preset(preset, **changes).vocab_size
    return torch.randint(0, vocab_size, shape, generator=torch.Generator("cpu").manual_seed(0)).to(device)


def _without_gradients(contestants: Contestants) -> Contestants:
    return {name: torch.no_grad()(work) for name, work in contestants.items()}
