"""Figures of notebook 03."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mamba2_lab.checks import require
from mamba2_lab.plots.page import TICK, Panel, blank
from mamba2_lab.plots.style import AMOUNTS, COLOURS, FAINT, INK, PALE_INK, WIDTH, styled
from mamba2_lab.words import visible

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = COLOURS
MOST = 1.0  # amounts from here on have the darkest colour
DARKER_IS_MORE = "Blues"  # white where there is nothing
CLOSE = 0.05  # an amount this near to the wanted one will do


def amounts_after_each(dt: Any, A: float) -> Any:
    """(l,) -> (l, l): row s, column t is what the state holds of word s after word t."""
    time = np.cumsum(np.asarray(dt, dtype=np.float64))
    written = np.asarray(dt, dtype=np.float64)[:, None] * np.exp(A * (time - time[:, None]))
    return np.triu(written)


def verdict(words: Sequence[str], marked: Any, amounts: Any, amount: float) -> str:
    """What is wrong with the amounts (l,) at the end, in words; each marked one should be `amount`, the others 0."""
    wanted = np.where(np.asarray(marked), amount, 0.0)
    off = np.asarray(amounts) - wanted
    parts = []
    for name, wrong in (("too little", off < -CLOSE), ("too much", off > CLOSE)):
        if wrong.any():
            parts.append(f"{name} of {', '.join(word for word, is_off in zip(words, wrong, strict=True) if is_off)}")
    return "; ".join(parts) if parts else f"the marked words, to within {CLOSE}"


@styled
def painted_memory(words: Sequence[str], dt: Any, marked: Any, amount: float, A: float) -> Figure:
    """A row for every word: its dt, the state after each word, and what is held at the end beside what should be.

    Each word writes in an entry of its own, so that one sees what becomes of it.

    Args:
        words: l of them. dt: (l,), 0 or more. marked: (l,) bool. A: < 0.
        amount: how much the state should hold of each marked word at the end; of the others, nothing.

    Raises:
        ValueError: as `checks` says it.
    """
    dt, marked = np.asarray(dt, dtype=np.float64), np.asarray(marked)
    require(dt.shape == (len(words),), "dt", f"one number for each of the {len(words)} words", dt.shape)
    require(bool((dt >= 0).all()), "dt", "0 or more", dt.min())
    require(A < 0, "A", "below 0", A)
    table = amounts_after_each(dt, A)
    figure = blank(3.6)
    colours = [ORANGE if is_marked else SKY for is_marked in marked]
    times = _rows(figure, (0.09, 0.20), len(words), max(2.0, 1.05 * float(dt.max())))
    times.bars(_middles(words), dt, 14, colours, lying=True)
    times.frame({0: "0", 2: "2"}, "dt")
    _name_rows(times, words, marked)
    state = _rows(figure, (0.32, 0.36), len(words), len(words))
    state.picture(table, (0, 0, len(words), len(words)), DARKER_IS_MORE, Normalize(0, MOST))
    state.lines([[(0, 0), (len(words), 0), (len(words), len(words)), (0, len(words)), (0, 0)]])
    _draw_scale(figure, 0.69)
    end = _rows(figure, (0.775, 0.205), len(words), 1.2)
    end.bars(_middles(words), table[:, -1], 14, colours, lying=True)
    end.frame({0: "0.0", 0.5: "0.5"}, "at the end (line: wanted)")
    wanted = np.where(marked, amount, 0.0)
    lines = [[(x, y - 0.45), (x, y + 0.45)] for x, y in zip(wanted, _middles(words), strict=True)]
    end.add(LineCollection(lines, colors=INK, linewidths=2), cut=True)
    whole = Panel(figure, (0, 0, 1, 1), (0, 1), (0, 1))
    whole.write([(0.32, 0.03, "the state after each word")], 11, aligned="bottom")
    whole.write([(0.09, 0.93, f"at the end: {verdict(words, marked, table[:, -1], amount)}")], 12)
    return figure


def _draw_scale(figure: Figure, left: float) -> None:
    """What the colours of the state stand for, as a narrow panel from that edge on."""
    scale = Panel(figure, (left, 0.15, 0.012, 0.73), (0, 1), (0, MOST))
    scale.picture(np.linspace(MOST, 0, 64)[:, None], (0, 0, 1, MOST), DARKER_IS_MORE, Normalize(0, MOST))
    scale.lines([[(0, 0), (1, 0), (1, MOST), (0, MOST), (0, 0)]])
    names = [(1, 0, "0"), (1, MOST / 2, f"{MOST / 2:g}"), (1, MOST, f"{MOST:g}+")]
    scale.write(names, 9.5, aligned="center", away=(TICK, 0))


def _rows(figure: Figure, place: tuple[float, float], count: int, width: float) -> Panel:
    """A panel with a row for each word, the first on top; place: its left edge and its width."""
    left, wide = place
    return Panel(figure, (left, 0.15, wide, 0.73), (0, width), (count, 0))


def _name_rows(panel: Panel, words: Sequence[str], marked: Any) -> None:
    """The words on the left, the marked ones in bold."""
    for weight, which in (("bold", marked), ("normal", ~marked)):
        names = [(0, y, word) for y, word, named in zip(_middles(words), words, which, strict=True) if named]
        panel.write(names, 11, side="right", aligned="center", away=(-TICK, 0), weight=weight)


def _middles(words: Sequence[str]) -> Any:
    return np.arange(len(words)) + 0.5


@styled
def held_at_end(words: Sequence[str], marked: Any, amounts: Mapping[str, Any]) -> Figure:
    """How much is held of each word at the end, a line for each of several memories: (l,) by name."""
    figure = Figure(figsize=(WIDTH, 3.3))
    axes = figure.add_subplot()
    for (name, held), colour, marker in zip(amounts.items(), (BLUE, GREEN, VERMILION), "os^", strict=False):
        axes.plot(np.asarray(held), color=colour, marker=marker, ms=6, lw=1.8, label=name)
    for t in np.flatnonzero(np.asarray(marked)):
        axes.axvspan(t - 0.4, t + 0.4, color=ORANGE, alpha=0.22, lw=0)
    axes.set_xticks(range(len(words)), words)
    for label, is_marked in zip(axes.get_xticklabels(), np.asarray(marked), strict=True):
        label.set_fontweight("bold" if is_marked else "normal")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("held at the end")
    figure.legend(loc="outside upper center", ncols=len(amounts))
    return figure


@styled
def kept_over_a_line(
    words: Sequence[str], dt: Any, A: float, pieces: Sequence[str], decays: Any, heads: Sequence[str]
) -> Figure:
    """What is kept at each step: above by a memory made by hand, below by some heads of a trained model.

    Args:
        words: l of them. dt: (l,), made by hand. A: the rate that goes with it.
        pieces: k tokens. decays: (k, heads), what each head keeps at each token. heads: what to call them.
    """
    dt, decays = np.asarray(dt), np.asarray(decays)
    figure = Figure(figsize=(WIDTH, 4.9))
    above, below = figure.subplots(2, 1, height_ratios=[1.0, 1.25])
    places = np.arange(len(words))
    above.bar(places - 0.2, dt, width=0.4, color=ORANGE, label="dt: time that passes")
    above.bar(places + 0.2, np.exp(dt * A), width=0.4, color=BLUE, label="decay: share of the old that is kept")
    above.set_xticks(places, words)
    above.set_ylim(0, 1.05)
    above.set_yticks([0, 0.5, 1])
    above.set_title("made by hand", pad=10)
    above.legend(loc="lower right", bbox_to_anchor=(1.0, 0.97), ncols=2)
    image = below.imshow(decays.T, aspect="auto", cmap=AMOUNTS, vmin=0, vmax=1, interpolation="nearest")
    below.set_xticks(range(len(pieces)), [visible(piece) for piece in pieces], family="DejaVu Sans Mono")
    below.set_yticks(range(len(heads)), heads)
    below.tick_params(length=0)
    below.spines[:].set_visible(False)
    below.set_title("learned by the model `small`")
    figure.colorbar(image, ax=below, label="decay", pad=0.01)
    return figure


@styled
def recall_by_length(
    lengths: Sequence[int], shares: Mapping[str, Any], guesses: Mapping[str, float], trained: int
) -> Figure:
    """Share of right answers against the length of the sequence.

    Args:
        lengths: k of them. shares: by name of the memory, (seeds, k): each training is a line.
        guesses: by name, the share that a guess gets right, a level across.
        trained: the length that they were trained on.
    """
    figure = Figure(figsize=(WIDTH, 3.5))
    axes = figure.add_subplot(xscale="log")
    for (name, runs), colour, marker in zip(shares.items(), (BLUE, VERMILION), "os", strict=False):
        for i, run in enumerate(np.asarray(runs)):
            axes.plot(lengths, run, color=colour, marker=marker, ms=6, lw=1.6, label="" if i else name, clip_on=False)
    for name, guess in guesses.items():
        axes.axhline(guess, color=FAINT, lw=1.2, ls="--")
        axes.annotate(name, (1.0, guess), xycoords=("axes fraction", "data"), xytext=(6, 0),
                      textcoords="offset points", va="center", size=9.5, color=PALE_INK)  # fmt: skip
    axes.axvline(trained, color=FAINT, lw=1, ls=":")
    axes.text(trained, 0.02, " trained at this length", size=9.5, color=PALE_INK)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.minorticks_off()
    axes.set_xlabel("length of the sequence, in tokens")
    axes.set_ylabel("right answers")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@styled
def decay_tables(tables: Mapping[str, Any]) -> Figure:
    """What fades at one token, -log decay of every entry of a state (channels, n), one state beside the other."""
    arrays = {name: np.asarray(table) for name, table in tables.items()}
    scale = LogNorm(min(array.min() for array in arrays.values()), max(array.max() for array in arrays.values()))
    figure = Figure(figsize=(WIDTH, 3.6))
    panels = figure.subplots(1, len(arrays), squeeze=False)[0]
    for axes, (name, array) in zip(panels, arrays.items(), strict=True):
        axes.imshow(array, cmap=AMOUNTS, norm=scale, aspect="auto", interpolation="nearest")
        axes.set_title(name)
        axes.set_xlabel("entry of B, n")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    panels[0].set_ylabel("channel")
    figure.colorbar(ScalarMappable(scale, AMOUNTS), ax=list(panels), label="what fades, −log decay", pad=0.01)
    return figure


@styled
def two_step_sizes(right: Any, wrong: Any, names: tuple[str, str]) -> Figure:
    """Two step sizes of the same tokens and heads against each other, on logarithmic axes; one shape for both."""
    right, wrong = np.asarray(right).ravel(), np.asarray(wrong).ravel()
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot(xscale="log", yscale="log")
    axes.plot(right, wrong, ".", ms=3, color=VERMILION, alpha=0.35)
    ends = np.array([right.min(), right.max()])
    axes.plot(ends, ends, color=INK, lw=1.2, ls="--")
    axes.annotate("equal", (ends[0], ends[0]), (0, 8), textcoords="offset points", ha="center", size=9.5)
    axes.set_xlabel(f"dt, {names[0]}")
    axes.set_ylabel(f"dt, {names[1]}")
    return figure
