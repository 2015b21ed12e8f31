"""The explorer of notebook 05: the four steps of SSD, one at a time, for any chunk size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ipywidgets import IntSlider, Layout
from matplotlib.figure import Figure
from torch import Tensor

from mamba2_lab import plots
from mamba2_lab.plots.chunks import MOST_CHUNKS, STEPS, FourSteps
from mamba2_lab.scan import segsum
from mamba2_lab.widgets.view import View
from mamba2_lab.words import counted


def four_steps(log_decay: Tensor, B: Tensor, C: Tensor, chunk_size: int) -> FourSteps:
    """What each step of SSD makes of a text in which every word writes in a channel of its own.

    log_decay (l,), B, C (l,n), all >= 0 but log_decay -> the parts that `plots.chunk_steps` draws.
    """
    l, n = B.shape
    chunk = torch.arange(l) // chunk_size
    M = torch.exp(segsum(log_decay)) * (C @ B.mT)
    inside = M.masked_fill(chunk[:, None] != chunk, 0.0)
    left_behind, readers, states = torch.zeros(n, l), torch.zeros(l, n), []
    state = torch.zeros(n, l)
    for part in (slice(start, min(start + chunk_size, l)) for start in range(0, l, chunk_size)):
        left_behind[:, part] = B[part].mT * torch.exp(segsum(log_decay[part])[-1])
        readers[part] = C[part] * torch.exp(log_decay[part].cumsum(dim=0))[:, None]
        state = state * torch.exp(log_decay[part].sum())
        state[:, part] = left_behind[:, part]
        states.append(state)
    return FourSteps(inside, left_behind, torch.stack(states), readers, M - inside)


class ChunkStepper(View):
    """Sliders for the step and the chunk size over the figure `plots.chunk_steps`, for one short text."""

    def __init__(
        self, words: Sequence[str], log_decay: Tensor, B: Tensor, C: Tensor, columns: Sequence[str] = ()
    ) -> None:
        self._text, self._columns = (words, log_decay, B, C), columns
        wide, l = Layout(width="420px"), len(words)
        super().__init__(
            step=IntSlider(0, min=0, max=len(STEPS) - 1, description="step", layout=wide),
            chunk_size=IntSlider(4, min=-(-l // MOST_CHUNKS), max=l, description="chunk size", layout=wide),
        )

    def draw(self, step: int, chunk_size: int) -> Figure:  # type: ignore[override]
        words, log_decay, B, C = self._text
        steps = four_steps(log_decay, B, C, chunk_size)
        return plots.chunk_steps(words, steps, chunk_size, until=step, columns=self._columns)

    def describe(self, step: int, chunk_size: int) -> str:  # type: ignore[override]
        chunks = -(-len(self._text[0]) // chunk_size)
        return f"A text in {counted(chunks, 'chunk')} of up to {chunk_size} words. {STEPS[step].format(q=chunk_size)}"
