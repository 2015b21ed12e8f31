"""The figures of notebook 08 show the numbers they were given, and the live one is drawn again when it is time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from mamba2_lab import plots
from mamba2_lab.plots import training as module
from mamba2_lab.pretrained.comparison import read_table
from mamba2_lab.training import Record


def labels(ticks) -> list[str]:
    return [tick.get_text() for tick in ticks]


def records_of(losses, rate: float = 0.01, norm: float = 2.0) -> list[Record]:
    return [Record(step, loss, rate * (step + 1), norm / (step + 1), 3.0 * step) for step, loss in enumerate(losses)]


def lines(axes) -> dict[str, tuple[list[float], list[float]]]:
    """What is drawn in lines with a label."""
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.lines
        if not str(line.get_label()).startswith("_")
    }


# The run


def test_the_curve_shows_bits_and_their_mean_over_the_last_steps() -> None:
    losses = [math.log(2) * bits for bits in [8.0, 6.0, 4.0, *[2.0] * 30]]
    figure = plots.learning_curve(records_of(losses), 100, {"5-gram": 2.21})
    (axes,) = figure.axes
    raw = next(line for line in axes.lines if len(line.get_xdata()) == 33 and line.get_linewidth() < 1)
    assert raw.get_ydata() == pytest.approx([8.0, 6.0, 4.0, *[2.0] * 30])
    at, mean = lines(axes)["training, smoothed"]
    assert at == list(range(1, 34))
    assert mean[:9] == pytest.approx([8.0, 6.0, 4.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    assert axes.get_xlim() == (0, 100), "the whole run, whatever is done of it"
    assert axes.get_title(loc="left") == "step 33 of 100, after 96 s"


def test_the_curve_marks_what_was_measured_and_what_rivals_need() -> None:
    records = records_of([4.0, 3.0, 2.0])
    records[1] = Record(1, 3.0, 0.01, 1.0, 3.0, bits_per_byte=4.5)
    (axes,) = plots.learning_curve(records, 3, {"all alike": 8.0, "5-gram": 2.2}).axes
    assert lines(axes)["held-out files"] == ([2], [4.5])
    levels = [
        line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1 and len(line.get_ydata()) == 2
    ]
    assert levels == [8.0, 2.2]
    texts = {text.get_text(): text.xy[1] for text in axes.texts}
    assert texts == {"all alike, 8.00": 8.0, "5-gram, 2.20": 2.2}


def test_the_curve_can_be_drawn_before_the_first_step() -> None:
    (axes,) = plots.learning_curve([], 10, {"all alike": 8.0}).axes
    assert axes.get_title(loc="left") == "" and axes.get_xlim() == (0, 10)


def test_rate_and_norm_stand_side_by_side_and_the_limit_is_drawn() -> None:
    left, right = plots.rate_and_norm(records_of([3.0, 2.0, 1.0]), 0.7).axes
    assert list(left.lines[0].get_ydata()) == pytest.approx([0.01, 0.02, 0.03])
    assert list(right.lines[0].get_ydata()) == pytest.approx([2.0, 1.0, 2 / 3])
    assert right.lines[1].get_ydata() == [0.7, 0.7]
    assert right.get_yscale() == "log"
    assert "0.7" in right.get_title(loc="left")


# The sweep

RUNS = [
    {"learning_rate": 0.001, "bits_per_byte": 3.0, "curve": {"step": [0, 3], "loss": [5.5, 2.1]}},
    {"learning_rate": 0.01, "bits_per_byte": 2.0, "curve": {"step": [0, 3], "loss": [5.5, 1.4]}},
    {"learning_rate": 1.0, "bits_per_byte": None, "curve": {"step": [0], "loss": [5.5]}},
]


def test_each_run_of_the_sweep_has_its_curve_and_its_end() -> None:
    left, right = plots.learning_rates(RUNS).axes
    curves = lines(left)
    assert list(curves) == ["0.001", "0.01", "1"]
    assert curves["0.01"][0] == [1, 4]
    assert curves["0.01"][1] == pytest.approx([5.5 / math.log(2), 1.4 / math.log(2)])
    assert right.collections[0].get_offsets().tolist() == [[0.001, 3.0], [0.01, 2.0]], "a run that broke off has no end"
    (best,) = right.texts
    assert best.get_text() == "0.01: 2.00" and best.xy == (0.01, 2.0)


def test_a_run_has_the_same_colour_on_both_sides() -> None:
    left, right = plots.learning_rates(RUNS).axes
    dots = right.collections[0].get_facecolors()
    for line, dot in zip(left.lines, dots, strict=False):
        assert tuple(line.get_color()) == pytest.approx(tuple(dot))


# Sixteen bits, memory, recall, losses


def test_each_memory_is_a_line_of_its_panel() -> None:
    memories = {"decay 0.9": {"exact": [1.0, 0.9], "rounded": [1.0, 1.0]}, "decay 0.5": {"exact": [1.0, 0.5]}}
    left, right = plots.rounded_memories(memories).axes
    assert [left.get_title(loc="left"), right.get_title(loc="left")] == list(memories)
    assert lines(left) == {"exact": ([0, 1], [1.0, 0.9]), "rounded": ([0, 1], [1.0, 1.0])}
    assert lines(right) == {"exact": ([0, 1], [1.0, 0.5])}


def test_memory_is_shown_in_mebibytes_against_the_number_of_blocks() -> None:
    (axes,) = plots.kept_for_gradients([1, 4], {"everything": [2**20, 3 * 2**20], "inputs": [2**19, 2**20]}).axes
    assert lines(axes) == {"everything": ([1, 4], [1.0, 3.0]), "inputs": ([1, 4], [0.5, 1.0])}
    assert axes.get_ylabel() == "kept (MiB)"


def test_recall_is_shown_step_by_step_with_the_share_of_a_guess() -> None:
    (axes,) = plots.recall_curves({"one": {0: 0.1, 10: 0.9}, "two": {0: 0.05}}, chance=1 / 15).axes
    assert lines(axes) == {"one": ([0, 10], [0.1, 0.9]), "two": ([0], [0.05])}
    assert any(list(line.get_ydata()) == [1 / 15, 1 / 15] for line in axes.lines)


def test_losses_are_smoothed_and_kept_apart() -> None:
    (axes,) = plots.losses({"right": records_of([3.0, 1.0]), "wrong": records_of([3.0, 2.0])}).axes
    assert lines(axes) == {"right": ([1, 2], [3.0, 1.0]), "wrong": ([1, 2], [3.0, 2.0])}


def test_each_block_has_the_error_of_its_gradient() -> None:
    (axes,) = plots.gradient_errors([1.5, 0.25, 0.0]).axes
    assert [bar.get_x() + bar.get_width() / 2 for bar in axes.patches] == pytest.approx([1, 2, 3])
    assert [bar.get_height() for bar in axes.patches] == [1.5, 0.25, 0.0]
    assert [text.get_text() for text in axes.texts] == ["150%", "25%", "0%"]


# The table

ROWS = [
    {"name": "gzip", "bits_per_byte": 2.2, "parameters": None, "note": "each file alone"},
    {"name": "medium", "bits_per_byte": 0.62, "parameters": 8_123_456, "with_copies": 0.58},
    {"name": "5-gram", "bits_per_byte": 1.9},
]


def test_the_table_is_drawn_with_the_worst_on_top_and_models_told_from_counts() -> None:
    (axes,) = plots.comparison(ROWS).axes
    assert labels(axes.get_yticklabels()) == ["gzip", "5-gram", "medium, 8.1 M weights"]
    assert [bar.get_width() for bar in axes.patches] == [2.2, 1.9, 0.62]
    assert [text.get_text() for text in axes.texts] == ["2.20", "1.90", "0.62"]
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert colours[0] == colours[1] != colours[2]
    assert axes.yaxis_inverted(), "row 0 belongs at the top"
    assert axes.get_xlim()[0] == 0


def test_what_copies_are_worth_is_marked_on_the_row_it_is_of() -> None:
    (axes,) = plots.comparison(ROWS).axes
    assert lines(axes) == {"with copies left in": ([0.58], [2])}
    (axes,) = plots.comparison(ROWS[:1]).axes
    assert not lines(axes) and axes.get_legend() is None


def test_a_full_table_keeps_marks_and_numbers_apart() -> None:
    """Every trained row with its copies, one of which brought next to nothing: its mark sits at the end of the bar."""
    models = [("small", 978_240, 1.07, 1.01), ("transformer", 8_012_345, 0.672, 0.671), ("medium", 7.9e6, 0.66, 0.6)]
    rows = [
        {"name": name, "parameters": weights, "bits_per_byte": bits, "with_copies": copies, "parses": 0.5, "note": ""}
        for name, weights, bits, copies in models
    ]
    (axes,) = plots.comparison([*ROWS[::2], *rows]).axes
    (mark,) = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    assert list(zip(mark.get_xdata(), mark.get_ydata(), strict=True)) == [(1.01, 2), (0.671, 3), (0.6, 4)]
    axes.figure.draw_without_rendering()
    half = mark.get_markersize() * axes.figure.dpi / 72 / 2
    for x, y in zip(mark.get_xdata(), mark.get_ydata(), strict=True):
        assert axes.transData.transform((x, y))[0] + half < axes.texts[y].get_window_extent().x0
    widest = max(text.get_window_extent().x1 for text in axes.texts)
    assert widest < axes.get_window_extent().x1, "no number may stick out of the axes"


def test_the_table_in_the_box_can_be_drawn() -> None:
    rows = read_table()["rows"]
    (axes,) = plots.comparison(rows).axes
    assert sorted(bar.get_width() for bar in axes.patches) == sorted(row["bits_per_byte"] for row in rows)


# Live


class Handle:
    """Stands in for the place in the notebook; notes what is put there."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, str]] = []

    def display(self, data, *, raw) -> None:
        self.shown.append(("new", data["text/html"]))

    def update(self, data, *, raw) -> None:
        self.shown.append(("in its place", data["text/html"]))


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    times = {"now": 100.0}
    monkeypatch.setattr(module.time, "monotonic", lambda: times["now"])
    return times


def test_a_live_figure_is_drawn_again_in_its_place_once_it_is_time(monkeypatch, clock) -> None:
    monkeypatch.setattr(module, "DisplayHandle", Handle)
    drawn = []

    def draw() -> Figure:
        drawn.append(clock["now"])
        return plots.gradient_errors([0.5])

    live = plots.Live(draw, alt='errors, "live"', caption="look here", every=2.0)
    for now in (100.5, 101.9, 102.0, 103.0, 104.5):
        clock["now"] = now
        live.refresh()
    live.refresh(now=True)
    assert drawn == [100.0, 102.0, 104.5, 104.5]
    assert [how for how, _ in live._handle.shown] == ["new", *["in its place"] * 3]
    for _, text in live._handle.shown:
        assert "errors, &quot;live&quot;" in text and "look here" in text


def test_a_live_figure_keeps_its_height_free(monkeypatch, clock) -> None:
    monkeypatch.setattr(module, "DisplayHandle", Handle)
    live = plots.Live(lambda: Figure(figsize=(5, 3)), alt="nothing")
    assert 'style="min-height: 288px"' in live._handle.shown[0][1]


def test_a_mean_is_of_the_last_quarter_and_of_twenty_values_at_most() -> None:
    values = np.random.default_rng(0).random(120).tolist()
    counts = [min(20, max(1, (i + 1) // 4)) for i in range(120)]
    expected = [sum(values[i + 1 - count : i + 1]) / count for i, count in enumerate(counts)]
    assert counts[-1] == 20 and counts[11] == 3
    assert module.smoothed(values) == pytest.approx(expected)
