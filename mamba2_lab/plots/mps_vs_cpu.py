"""Figures of notebook 12."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from mamba2_lab.benchmark import Measurement, where
from mamba2_lab.plots.style import AMOUNTS, COLOURS, FAINT, INK, LINES, MARKS, PALE_INK, PAPER, SIGNED, WIDTH, styled

SETTINGS = {"l": "l, in tokens", "b": "b, texts at once"}


# Reading the clock


@styled
def timeline(busy: Mapping[str, Sequence[tuple[float, float]]], readings: Mapping[str, tuple[float, float]]) -> Figure:
    """Who was busy when, and which span each stopwatch took for the work.

    Args:
        busy: for each of those who do something, from when to when, in seconds.
        readings: for each stopwatch, its first and its second look at the clock.
    """
    rows = [*busy, *readings]
    figure = Figure(figsize=(WIDTH, 0.8 + 0.5 * len(rows)))
    axes = figure.add_subplot(ylim=(len(rows) - 0.4, -0.6))
    for y, spans in enumerate(busy.values()):
        for start, stop in spans:
            axes.barh(y, 1e3 * (stop - start), left=1e3 * start, height=0.6, color=COLOURS[y], ec=PAPER)
    for y, (start, stop) in enumerate(readings.values(), start=len(busy)):
        axes.plot([1e3 * start, 1e3 * stop], [y, y], "|-", color=INK, ms=14, mew=2, lw=1.5)
        axes.annotate(
            f"{1e3 * (stop - start):.2f} ms", (1e3 * stop, y), (9, 0), textcoords="offset points", va="center", size=10
        )
    last = max(stop for spans in busy.values() for _, stop in spans)
    last = max(last, *(stop for _, stop in readings.values()))
    axes.set(xlabel="milliseconds", xlim=(-0.02e3 * last, 1.16e3 * last))
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure


@styled
def repeats(seconds: Sequence[float], mean: float) -> Figure:
    """The same work timed again and again, in order, with the median of all calls but the first, and their mean."""
    figure = Figure(figsize=(WIDTH, 3.0))
    axes = figure.add_subplot(yscale="log")
    times = 1e3 * np.asarray(seconds)
    middle = median(times[1:])
    axes.plot(0, times[0], "D", color=COLOURS[5], ms=7, label="the first call")
    axes.plot(range(1, len(times)), times[1:], "o", color=COLOURS[0], ms=4, label="all others")
    axes.axhline(middle, color=INK, lw=1.5, label=f"their median: {middle:.3g} ms")
    axes.axhline(1e3 * mean, color=PALE_INK, lw=1.5, ls="--", label=f"their mean: {1e3 * mean:.3g} ms")
    axes.set(xlabel="call", ylabel="milliseconds")
    _plain_numbers(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


# Curves


@styled
def time_by_size(
    sizes: Sequence[float], seconds: Mapping[str, Sequence[float]], along: str, meeting: float | None = None
) -> Figure:
    """Microseconds against size, on logarithmic axes; a curve for each way.

    Args:
        sizes: rising. seconds: by name, one for each size. along: what the sizes are.
        meeting: the size from which on another way is faster, to be marked; None marks nothing.
    """
    figure = Figure(figsize=(WIDTH, 3.4))
    axes = figure.add_subplot(xscale="log", yscale="log")
    for i, (name, times) in enumerate(seconds.items()):
        axes.plot(sizes, 1e6 * np.asarray(times), label=name, ms=5, **_look(i))
    if meeting is not None:
        axes.axvline(meeting, color=FAINT, lw=1.5, zorder=0)
        axes.annotate(
            f"{meeting:,.0f}",
            (meeting, 0.02),
            (4, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            size=10,
        )
    axes.set(xlabel=along, ylabel="microseconds for a call")
    _ticks_at(axes, sizes)
    _plain_numbers(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


@styled
def timings(records: Sequence[Measurement], over: str) -> Figure:
    """Times of a sweep against one of its settings: medians, with the quartiles as a band.

    Records of one machine share a panel, with a curve for each contestant. Records of several machines get a panel for
    each contestant, with a curve for each machine.

    Args:
        records: of one measure, all with a timing. over: the setting that was swept; it must be a number.

    Raises:
        ValueError: if there is no record, or one without that setting or without a timing.
    """
    if not records:
        raise ValueError("records must be at least one; got none")
    for record in records:
        if over not in record.settings or record.timing is None:
            raise ValueError(f"records must be timed and have the setting {over!r}; got {record.settings}")
    machines = list(dict.fromkeys(map(where, records)))
    contestants = list(dict.fromkeys(record.contestant for record in records))
    several = len(machines) > 1
    titles, names = (contestants, machines) if several else (machines, contestants)
    figure = Figure(figsize=(WIDTH, 3.9))
    panels: Any = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for axes, title in zip(panels, titles, strict=True):
        for i, name in enumerate(names):
            machine, contestant = (name, title) if several else (title, name)
            _draw_curve(axes, [r for r in records if (where(r), r.contestant) == (machine, contestant)], over, name, i)
        axes.set(xscale="log", yscale="log", xlabel=SETTINGS.get(over, over))
        axes.set_title(title, size=11)
        _ticks_at(axes, sorted({record.settings[over] for record in records}))
    panels[0].set_ylabel("milliseconds")
    _plain_numbers(panels[0])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(names)))
    return figure


def _draw_curve(axes: Axes, records: Sequence[Measurement], over: str, name: str, i: int) -> None:
    rising = sorted(records, key=lambda record: record.settings[over])
    x = [record.settings[over] for record in rising]
    low, middle, high = (
        [1e3 * getattr(record.timing, field) for record in rising] for field in ("low", "median", "high")
    )
    axes.fill_between(x, low, high, color=COLOURS[i % len(COLOURS)], alpha=0.2, lw=0)
    axes.plot(x, middle, label=name, ms=5, **_look(i))


def _look(i: int) -> dict[str, Any]:
    return {"color": COLOURS[i % len(COLOURS)], "ls": LINES[i % len(LINES)], "marker": MARKS[i % len(MARKS)], "lw": 1.8}


def _ticks_at(axes: Axes, places: Sequence[float]) -> None:
    """At most seven of the places, written out."""
    shown = list(places)[:: -(-len(places) // 7)]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.xaxis.set_minor_locator(NullLocator())


def _plain_numbers(axes: Axes) -> None:
    """Numbers along a logarithmic y axis as one writes them, also between the powers of ten."""
    low, high = axes.get_ylim()
    between = (2.0, 5.0) if high > 30 * low else (1.5, 2.0, 3.0, 5.0, 7.0)
    axes.yaxis.set_minor_locator(LogLocator(subs=between))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.12g}")
    axes.yaxis.set_minor_formatter(lambda value, _: f"{value:,.12g}")
    axes.yaxis.set_tick_params(which="minor", labelsize=9)


def _short(number: float) -> str:
    """1024 -> 1k, 4194304 -> 4M; others as they are."""
    for size, letter in ((2**30, "G"), (2**20, "M"), (2**10, "k")):
        if number >= size and number % size == 0:
            return f"{number // size:.0f}{letter}"
    return f"{number:,.4g}"


# Tables


@styled
def ratio_map(
    rows: Sequence[float],
    columns: Sequence[float],
    ratios: Sequence[Sequence[float]],
    down: str,
    along: str,
    names: tuple[str, str],
) -> Figure:
    """How many times as long the first takes as the second, for each pair of settings. White is equal.

    Args:
        ratios: a row for each of `rows`, a number for each of `columns`. down, along: what these are.
        names: the first, and the second.
    """
    figure = Figure(figsize=(WIDTH, 1.3 + 0.42 * len(rows)))
    axes = figure.add_subplot()
    table = np.asarray(ratios, dtype=float)
    most = max(2.0, float(np.max(np.maximum(table, 1 / table))))
    image = axes.imshow(table, cmap=SIGNED, norm=LogNorm(1 / most, most), aspect="auto")
    _fill(axes, table, lambda ratio: f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}", image)
    axes.set_yticks(range(len(rows)), map(_short, rows))
    axes.set_xticks(range(len(columns)), map(_short, columns))
    axes.set_xlabel(along)
    axes.set_ylabel(down, labelpad=8)
    axes.set_title(f"time with {names[0]} / time with {names[1]}: above 1 the second takes less", size=11)
    return figure


@styled
def error_ledger(errors: Mapping[str, Mapping[str, float]], along: str) -> Figure:
    """Relative errors as a table: a row for each computation, a column for each kind of number or device.

    Colour follows the power of ten. A NaN is written as one.
    """
    names = list(next(iter(errors.values())))
    table = np.array([[row[name] for name in names] for row in errors.values()])
    figure = Figure(figsize=(WIDTH, 1.2 + 0.42 * len(errors)))
    axes = figure.add_subplot()
    image = axes.imshow(np.clip(table, 1e-9, 1), cmap=AMOUNTS, norm=LogNorm(1e-9, 1), aspect="auto")
    _fill(axes, table, lambda error: f"{error:.0e}", image)
    axes.set_yticks(range(len(errors)), errors)
    axes.set_xticks(range(len(names)), names)
    axes.xaxis.tick_top()
    axes.set_title(along, size=11)
    return figure


def _fill(axes: Axes, table: np.ndarray, write: Any, image: Any) -> None:
    """A number in each cell, in ink or in white, whichever can be read on it."""
    for y, x in itertools.product(*map(range, table.shape)):
        red, green, blue, _ = image.cmap(image.norm(table[y, x]))
        dark = np.isfinite(table[y, x]) and 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        axes.text(x, y, write(table[y, x]), ha="center", va="center", size=10, color=PAPER if dark else INK)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(0.5, table.shape[1] - 1), minor=True)
    axes.set_yticks(np.arange(0.5, table.shape[0] - 1), minor=True)
    axes.grid(which="minor", color=PAPER, lw=1.5)
    axes.tick_params(which="minor", length=0)


# The roofline

Place = tuple[float, float]


@styled
def roofline(
    peak: float, bandwidth: float, operations: Mapping[str, Mapping[str, tuple[float, float, float]]]
) -> Figure:
    """Operations per second against operations per byte, under the two ceilings of a machine.

    Args:
        peak: operations per second at best. bandwidth: bytes per second at best.
        operations: by group (a prompt, a step), by name: (operations, bytes, seconds) of each.
    """
    figure = Figure(figsize=(WIDTH, 4.6))
    axes = figure.add_subplot(xscale="log", yscale="log")
    points = {
        group: {name: (work / size, work / seconds) for name, (work, size, seconds) in by_name.items()}
        for group, by_name in operations.items()
    }
    ridge = peak / bandwidth
    xs = [x for by_name in points.values() for x, _ in by_name.values()] + [ridge]
    ys = [y for by_name in points.values() for _, y in by_name.values()] + [peak]
    left, right = min(xs) / 3, max(xs) * 4
    axes.plot([left, ridge, right], [bandwidth * left, peak, peak], color=INK, lw=2)
    axes.annotate(f"{peak / 1e9:,.3g} billion operations a second", (ridge, peak), (2, 6), **_BESIDE, ha="left")
    middle = (left * ridge) ** 0.5
    text = f"{bandwidth / 1e9:,.3g} GB a second"
    axes.annotate(text, (middle, bandwidth * middle), (-8, 4), **_BESIDE, ha="right")
    for i, (group, by_name) in enumerate(points.items()):
        x, y = zip(*by_name.values(), strict=True)
        axes.plot(x, y, MARKS[i], ms=9, color=COLOURS[i], label=group, mec=PAPER)
        side, offset = (("left", (7, -15)), ("right", (-9, -4)))[i % 2]  # names of groups that lie close do not meet
        for names, leftmost, rightmost in _named_together(by_name):
            place = rightmost if side == "left" else leftmost
            axes.annotate(names, place, offset, textcoords="offset points", ha=side, size=10, color=INK, bbox=_CLEAR)
    axes.set(xlim=(left, right), ylim=(min(*ys, bandwidth * left) / 2, max(ys) * 3))
    axes.set(xlabel="operations for each byte that passes through memory", ylabel="billion operations a second")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value / 1e9:,.12g}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.12g}")
    axes.legend(loc="lower right")
    return figure


def _named_together(points: Mapping[str, tuple[float, float]]) -> list[tuple[str, Place, Place]]:
    """Names, leftmost and rightmost point; points so close that their names would cover each other share a label."""
    found: list[tuple[str, Place, Place]] = []
    for name, (x, y) in sorted(points.items(), key=lambda item: item[1]):
        for k, (names, leftmost, (u, v)) in enumerate(found):
            if 1 / 1.6 < x / u < 1.6 and 1 / 1.6 < y / v < 1.6:
                found[k] = (f"{names}, {name}", leftmost, (x, y))
                break
        else:
            found.append((name, (x, y), (x, y)))
    return found


_CLEAR = {"fc": PAPER, "ec": "none", "pad": 0.5, "alpha": 0.7}  # the roof may pass behind a name
_BESIDE: dict[str, Any] = {"textcoords": "offset points", "va": "bottom", "size": 10, "color": INK}
