"""The explorer of notebook 03: the dt of every word is set by hand, and the state shows what it is good for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ipywidgets import FloatSlider, Layout
from matplotlib.figure import Figure

from mamba2_lab import plots
from mamba2_lab.plots.choosing_what_to_remember import amounts_after_each, verdict
from mamba2_lab.widgets.view import View

HIGHEST = 3.0


class DtPainter(View):
    """A slider for the dt of each word, over the figure `plots.painted_memory`.

    Args:
        words: of the sentence; one slider each, in order, `controls["word 0"]` the first.
        marked, amount, A: as for the figure.
        dt: where every slider stands at first.
    """

    def __init__(self, words: Sequence[str], marked: Sequence[bool], amount: float, A: float, dt: float = 0.3) -> None:
        self._sentence = words, np.asarray(marked), amount, A
        layout = Layout(width="64px", height="176px")  # ten of them side by side on a small screen
        super().__init__(
            **{
                f"word {t}": FloatSlider(
                    dt, min=0, max=HIGHEST, step=0.05, orientation="vertical", description=word, layout=layout
                )
                for t, word in enumerate(words)
            }
        )

    def draw(self, **dt: float) -> Figure:
        words, marked, amount, A = self._sentence
        return plots.painted_memory(words, list(dt.values()), marked, amount, A)

    def describe(self, **dt: float) -> str:
        words, marked, amount, A = self._sentence
        held = amounts_after_each(list(dt.values()), A)[:, -1]
        amounts = ", ".join(f"{word} {value:.2f}" for word, value in zip(words, held, strict=True))
        return f"The state at the end holds {amounts}: {verdict(words, marked, held, amount)}."
