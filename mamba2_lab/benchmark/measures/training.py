"""A training step."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.benchmark.clock import Work
from mamba2_lab.benchmark.measures.contestants import Contestants, new_model, ours, peer_of, random_ids
from mamba2_lab.mamba2_lm import Mamba2LM


def training_step(
    device: torch.device | str, *, preset: str = "medium", b: int = 4, l: int = 512, compiled: bool = False
) -> Contestants:
    """Forward and backward of the next-token loss; and the products of its projections alone, which nothing spares."""
    model = new_model(preset, device).train()
    theirs = peer_of(model).train()
    ids = random_ids(preset, (b, l + 1), device)

    def step(model: torch.nn.Module, logits_of: Callable[[Tensor], Tensor]) -> Work:
        def work() -> None:
            model.zero_grad(set_to_none=True)
            F.cross_entropy(logits_of(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()

        return work

    return {
        **ours(model, lambda model: step(model, model), compiled),
        "transformers": step(theirs, lambda ids: theirs(ids, use_cache=False).logits.float()),
        "matrix products": products_and_gradients(model, b * l),
    }


def products_and_gradients(model: Mamba2LM, tokens: int) -> Work:
    """Every projection and the head times rows for so many tokens, and the gradients of the matrix and of the rows."""
    matrices = [matrix for block in model.blocks for matrix in (block.mixer.in_proj, block.mixer.out_proj)]
    matrices.append(model.lm_head)
    widths = {width for matrix in matrices for width in (matrix.in_features, matrix.out_features)}
    rows = {width: torch.randn(tokens, width, device=model.device, requires_grad=True) for width in widths}

    def work() -> None:
        for matrix in matrices:
            given = rows[matrix.in_features]
            torch.autograd.grad(matrix(given), (given, matrix.weight), rows[matrix.out_features].detach())

    return work
