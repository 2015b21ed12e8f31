"""Figures of notebook 05."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mamba2_lab.plots.page import Panel, blank
from mamba2_lab.plots.style import COLOURS, FAINT, INK, MARKS, PALE_INK, WIDTH, plain_numbers, styled

STEP_COLOURS = COLOURS[:4]
SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
STEPS = (
    "the table M in chunks of {q}: all that the four steps have to make",
    "step 1, attend inside: each chunk by itself",
    "step 2, leave behind: what each chunk's own words leave at its end",
    "step 3, pass on: each state is the one before it, faded, and what its chunk left behind",
    "step 4, read what came in: it fades within the chunk",
)
MOST_CHUNKS = 4  # a stepper cuts its text into at most this many chunks
ACROSS, DOWN = 0.5, 0.19  # inches that a cell is wide and high


class FourSteps(NamedTuple):
    """SSD on a text of l words, each writing in a channel of its own, as numbers >= 0; c chunks, n columns of state.

    inside (l,l): M within the chunks, 0 elsewhere. left_behind (n,l): what is left of each word at its chunk's end.
    states (c,n,l): what is left of each word at the end of chunk 1, 2, ... below (l,l): M outside the chunks.
    readers (l,n): what each word reads of the state that came into its chunk.
    """

    inside: Any
    left_behind: Any
    states: Any
    readers: Any
    below: Any


class _Block(NamedTuple):
    """A part of the drawing: the step that makes it, its left upper corner, and the amounts in its cells."""

    step: int
    left: float
    top: float
    amounts: Any

    @property
    def corners(self) -> Any:
        """(4,2), of its frame."""
        rows, columns = self.amounts.shape
        return np.array([[self.left, self.top]]) + SQUARE * (columns, rows)

    @property
    def cells(self) -> Any:
        """(rows * columns, 4, 2), the corners of each cell."""
        row, column = np.indices(self.amounts.shape)
        return np.stack([self.left + column, self.top + row], axis=-1).reshape(-1, 1, 2) + SQUARE

    def shades(self, done: bool) -> Any:
        """(rows * columns, 3), a pale tint where there is nothing."""
        strength = 0.08 + 0.92 * np.clip(self.amounts, 0, 1) * done
        return 1 - strength.reshape(-1, 1) * (1 - np.asarray(to_rgb(STEP_COLOURS[self.step - 1])))

    @property
    def numbers(self) -> list[tuple[float, float, str]]:
        """Each amount in its cell, without the 0 in front; nothing where there is nothing."""
        return [
            (self.left + column + 0.5, self.top + row + 0.5, f"{amount:.2f}".removeprefix("0"))
            for (row, column), amount in np.ndenumerate(self.amounts)
            if amount >= 0.005
        ]


@styled
def chunk_steps(
    words: Sequence[str], steps: FourSteps, chunk_size: int, until: int = 4, columns: Sequence[str] = ()
) -> Figure:
    """The four steps of SSD as parts of one drawing, done up to step `until`; 0 shows where they will go.

    The table of who reads whom stands above, the states below it in the same columns, and the readers to its right:
    each block below the diagonal is the product of the readers beside it and the state that came into their chunk.

    Args:
        columns: what the n columns of the state are for, written beside the strips and above the readers.
    """
    l, n = np.shape(steps.readers)
    foot = _strip_top(len(steps.states) + 1, l, n)
    figure = blank(DOWN * (foot + 2.2))
    panel = Panel(figure, (0, 0, 1, 1), (-1.5, WIDTH / ACROSS - 1.5), (foot, -2.2))
    panel.write([(0, -1.6, STEPS[until].format(q=chunk_size))], 12, aligned="center")
    _draw_blocks(panel, _blocks(steps, l, n, chunk_size), until)
    panel.write([(place + 0.5, -0.3, word) for place, word in enumerate(words)], 9, side="center")
    panel.write([(-0.15, place + 0.7, word) for place, word in enumerate(words)], 9, side="right")
    strips = [_strip_top(k, l, n) for k in range(len(steps.states) + 1)]
    panel.write([(-0.15, top + i + 0.7, name) for top in strips for i, name in enumerate(columns)], 8.5, side="right")
    if len(steps.states) > 1:
        above = [(l + 1.1 + i, chunk_size - 0.3, name) for i, name in enumerate(columns)]
        panel.write(above, 8.5, side="center")
    panel.write(_notes(l, n, chunk_size, len(steps.states)), 9.5, aligned="center")
    return figure


def _notes(l: int, n: int, chunk_size: int, chunks: int) -> list[tuple[float, float, str]]:
    """What is said beside the parts of the drawing, and where."""
    notes = [
        (min(chunk_size, l) + 0.3, chunk_size / 2, "1: inside"),
        (l + 0.6, _strip_top(0, l, n) + n / 2, "2: left behind by each chunk"),
    ]
    for k in range(1, chunks + 1):
        notes.append((l + 0.6, _strip_top(k, l, n) + n / 2, f"3: the state after chunk {k}"))
    if chunks > 1:
        read = "4: what each word\nreads of the state\nthat came in"
        notes.append((l + n + 0.9, (chunk_size + l) / 2, read))
    return notes


def _draw_blocks(panel: Panel, blocks: Sequence[_Block], until: int) -> None:
    cells = [cell for block in blocks for cell in block.cells]
    shades = np.concatenate([block.shades(block.step <= until) for block in blocks])
    panel.add(PolyCollection(cells, facecolors=shades, linewidths=0, antialiased=False))
    frames = [block.corners for block in blocks]
    colours = [STEP_COLOURS[block.step - 1] for block in blocks]
    panel.add(PolyCollection(frames, facecolors="none", edgecolors=colours, linewidths=1.5))
    done = [block for block in blocks if block.step <= until]
    strong = {block.step: sum(to_rgb(STEP_COLOURS[block.step - 1])) < 1.5 for block in done}
    dark = [number for block in done if strong[block.step] for number in block.numbers if float(number[2]) > 0.5]
    light = [number for block in done for number in block.numbers if number not in dark]
    panel.write(light, 8.5, side="center", aligned="center")
    panel.write(dark, 8.5, side="center", aligned="center", colour="white")


def _blocks(steps: FourSteps, l: int, n: int, chunk_size: int) -> list[_Block]:
    inside, left_behind, states, readers, below = map(np.asarray, steps)
    blocks = []
    for k, start in enumerate(range(0, l, chunk_size), start=1):
        stop = min(start + chunk_size, l)
        blocks.append(_Block(1, start, start, inside[start:stop, start:stop]))
        blocks.append(_Block(2, start, _strip_top(0, l, n), left_behind[:, start:stop]))
        blocks.append(_Block(3, 0, _strip_top(k, l, n), states[k - 1, :, :stop]))
        if start > 0:
            blocks.append(_Block(4, 0, start, below[start:stop, :start]))
            blocks.append(_Block(4, l + 0.6, start, readers[start:stop]))
    return blocks


def _strip_top(k: int, l: int, n: int) -> float:
    """Strip 0 below the table holds what chunks leave behind, strip k the state after chunk k."""
    return l + 0.9 + k * (n + 0.5)


@styled
def costs(
    at: Mapping[str, Sequence[int]],
    counted: Mapping[str, Sequence[float]],
    measured: Mapping[str, Sequence[float]],
    along: str,
) -> Figure:
    """Multiply-adds counted, and seconds measured, side by side on logarithmic axes.

    Args:
        at: by way to compute, the lengths (or chunk sizes) it was tried at. along: what these are.
        counted, measured: by the same names, one number for each.
    """
    figure = Figure(figsize=(WIDTH, 3.7))
    left, right = figure.subplots(1, 2)
    for i, name in enumerate(at):
        style = {"color": COLOURS[i], "marker": MARKS[i], "markersize": 5}
        left.plot(at[name], np.asarray(counted[name]) / 1e6, label=name, **style)
        right.plot(at[name], np.asarray(measured[name]) * 1e3, **style)
    ticks = sorted({place for places in at.values() for place in places})
    for axes, title in ((left, "counted: million multiply-adds"), (right, "measured here: milliseconds")):
        axes.set(xscale="log", yscale="log", xlabel=along)
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], size=9)
        axes.tick_params(axis="x", which="minor", bottom=False)
        plain_numbers(axes.yaxis)
        axes.set_title(title, size=11)
    if len(at) > 1:
        figure.legend(loc="outside lower center", ncols=len(at))
    return figure


@styled
def errors_after_a_cut(errors: Mapping[str, Any], half_life: float, width: int) -> Figure:
    """The error at each token after a cut, for readers who lost something there.

    Args:
        errors: by name of the reader, one number for each token from the cut on, on a logarithmic axis.
        half_life: of the state, in tokens: a dotted line falls at that rate. width: of the filter in front.
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot(yscale="log")
    length = max(len(values) for values in errors.values())
    axes.axvspan(-0.5, width - 1.5, color=FAINT, alpha=0.22, linewidth=0)
    for i, (name, values) in enumerate(errors.items()):
        axes.plot(range(len(values)), values, color=COLOURS[i], marker="os"[i], markersize=3.5, label=name)
    tokens = np.arange(length)
    top = max(float(np.asarray(values).max()) for values in errors.values())
    fading = 2.0 ** (-tokens / half_life)
    axes.plot(tokens, 1.6 * top * fading, ":", color=PALE_INK, label=f"half every {half_life:g} tokens")
    axes.text(width - 1.2, 2.2 * top, f"first {width - 1} tokens", va="center", size=9.5, color=INK)
    axes.set(xlim=(-0.5, length - 0.5), ylim=(None, 3.5 * top), xlabel="tokens since the cut", ylabel="relative error")
    figure.legend(loc="outside lower center", ncols=3)
    return figure
