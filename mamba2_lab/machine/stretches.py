"""Long sequences, a stretch at a time, for the memory that computing takes not to grow with them."""

from collections.abc import Callable

import torch
from torch import Tensor

Steps = Callable[..., tuple[Tensor, Tensor]]


def stretch_by_stretch(
    compute: Steps, chunks: int, sequence: tuple[Tensor, ...], state: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """Compute so many whole chunks at a time, and what is left over as one shorter chunk."""
    l, ys = sequence[0].shape[1], []
    whole = l - l % chunk_size
    edges = [*range(0, whole, chunk_size * chunks), whole, l]
    lengths = [stop - start for start, stop in zip(edges, edges[1:], strict=False) if start < stop]
    for length, *part in zip(lengths, *(tensor.split(lengths, dim=1) for tensor in sequence), strict=True):
        y, state = compute(*part, state, min(chunk_size, length))
        ys.append(y)
    return (sequence[0] if not ys else ys[0] if len(ys) == 1 else torch.cat(ys, dim=1)), state
