"""How a token came to be chosen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Explanation:
    """How one token came to be chosen: the likeliest candidates, followed through the filters.

    token: the id that was chosen.
    logprob: the natural logarithm of the model's own probability of it, before any filter.
    stages: "model", then the filters that were switched on, in the order of application.
    candidates: ids, the likeliest to the model first; the chosen one comes last if it is not among the likeliest.
    probabilities: for each stage, those of the candidates; 0 once a filter has removed one.
    left: for each stage, how many tokens of the whole vocabulary have a chance.
    removed: for each stage, the probability that it took from the tokens it removed.
    """

    token: int
    logprob: float
    stages: tuple[str, ...]
    candidates: tuple[int, ...]
    probabilities: tuple[tuple[float, ...], ...]
    left: tuple[int, ...]
    removed: tuple[float, ...]


def explain(steps: Iterable[tuple[str, Tensor]], token: int, most: int = 12) -> Explanation:
    """What `stages` gave for one row, for the `most` likeliest tokens: small enough to be kept for every token."""
    names, rows = zip(*steps, strict=True)
    logits = torch.cat([row.double() for row in rows])  # (s,v)
    if logits.shape[0] != len(names):
        raise ValueError(f"steps must be those of one row; got logits of shape {tuple(rows[0].shape)}")
    probabilities, alive = logits.softmax(dim=-1), logits > -math.inf
    candidates = logits[0].topk(min(most, logits.shape[1])).indices.tolist()
    if token not in candidates:
        candidates[-1] = token
    removed = (probabilities[:-1] * ~alive[1:]).sum(dim=-1)
    return Explanation(
        token,
        float(logits[0].log_softmax(dim=-1)[token]),
        names,
        tuple(candidates),
        tuple(map(tuple, probabilities[:, candidates].tolist())),
        tuple(alive.sum(dim=-1).tolist()),
        (0.0, *removed.tolist()),
    )
