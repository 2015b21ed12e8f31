"""How far back a token is heard: the effective receptive field."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mamba2_lab.checks import check_ids, one_sequence
from mamba2_lab.inspect.layer import check_positions
from mamba2_lab.model import LanguageModel


@torch.enable_grad()  # notebooks switch gradients off
def gradient_reach(model: LanguageModel, input_ids: Tensor | Sequence[int], targets: Sequence[int] | Tensor) -> Tensor:
    """How much the embedding of each token moves what is expected after each target.

    For target t and source s the norm of the gradient |d log p(token t+1 | tokens 0..t) / d embedding_s|: by autograd,
    one backward pass per target.

    Args:
        input_ids: (l,) or (1,l), at least two tokens.
        targets: (t,), each in 0..l-2: the token after it must be known.

    Returns:
        (t,l) on the CPU; 0 for the sources after a target.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    ids = one_sequence("input_ids", input_ids)
    check_ids("input_ids", ids, model.config.vocab_size)
    at = check_positions("targets", targets, ids.shape[1] - 1)
    embedded: list[Tensor] = []

    def keep(_module: object, _ids: object, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[0]

    hook = model.embedding.register_forward_hook(keep)
    try:
        log_probabilities = model(ids)[0].log_softmax(dim=-1)
    finally:
        hook.remove()
    rows = embedded[0].new_zeros(len(at), ids.shape[1])
    for i, t in enumerate(at.tolist()):
        (gradient,) = torch.autograd.grad(log_probabilities[t, ids[0, t + 1]], embedded[0], retain_graph=True)
        rows[i, : t + 1] = gradient[0].norm(dim=-1)[: t + 1]  # behind it a scan that looks ahead may leave rounding
    return rows.cpu()


def mean_by_distance(rows: Tensor, targets: Sequence[int] | Tensor) -> Tensor:
    """(t,l) of targets and sources -> (l,): the mean over pairs at each distance target - source; NaN where none is.

    For what `gradient_reach` gives, or absolute rows of hidden attention.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    if rows.ndim != 2 or len(rows) != len(targets):
        raise ValueError(f"rows must have shape (t,l), t = {len(targets)} as targets; got {tuple(rows.shape)}")
    l = rows.shape[1]
    distance = check_positions("targets", targets, l)[:, None] - torch.arange(l)
    heard = distance >= 0
    sums = rows.new_zeros(l).index_add_(0, distance[heard], rows[heard])
    return sums / torch.bincount(distance[heard], minlength=l)
