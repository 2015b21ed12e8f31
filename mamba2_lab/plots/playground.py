"""The figure of the playground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mamba2_lab.plots.style import COLOURS, FAINT, INK, PALE_INK, WIDTH, styled
from mamba2_lab.words import percent, visible

NARROWEST = 3  # panels that share the width of the figure at least: a single one would be all bar


@styled
def candidates(tokens: Sequence[str], probabilities: Mapping[str, Sequence[float]], chosen: int) -> Figure:
    """The candidates for one token, as bars: a panel for the model's own probabilities, and one after each filter.

    Args:
        tokens: their texts, the likeliest first.
        probabilities: for each panel, by its title, those of the tokens; 0 where a filter has removed one.
        chosen: which of them was drawn; its bars have a colour of their own.
    """
    rows = {title: np.asarray(row) for title, row in probabilities.items()}
    figure = Figure(figsize=(WIDTH, 0.8 + 0.25 * len(tokens)))
    columns = max(NARROWEST, len(rows))
    panels = figure.subplots(1, columns, sharex=True, sharey=True, squeeze=False)[0]
    most = max(row.max() for row in rows.values())
    for axes, (title, row) in zip(panels, rows.items(), strict=False):
        _draw_panel(axes, title, row, chosen)
    for axes in panels[len(rows) :]:
        axes.set_visible(False)
    first = panels[0]
    room = 1.15 + 0.1 * columns  # for the numbers behind the bars: the narrower the panels, the more of it
    first.set(xlim=(0, room * most), ylim=(len(tokens) - 0.4, -0.6))
    first.set_yticks(range(len(tokens)), map(visible, tokens))
    for i, label in enumerate(first.get_yticklabels()):
        label.set(family="DejaVu Sans Mono", weight="bold" if i == chosen else "normal")
    return figure


def _draw_panel(axes: Axes, title: str, row: np.ndarray, chosen: int) -> None:
    colours = [COLOURS[5] if i == chosen else COLOURS[0] for i in range(len(row))]
    axes.barh(range(len(row)), row, color=colours, height=0.78)
    for i, probability in enumerate(row):
        axes.text(
            max(probability, 0),
            i,
            f" {percent(probability)}" if probability > 0 else " removed",
            va="center",
            size=8.5,
            color=INK if i == chosen else PALE_INK if probability > 0 else FAINT,
        )
    axes.set_title(title, size=10.5)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)
