"""The figures of notebook 12 show the numbers they were given, where they belong."""

from __future__ import annotations

import pytest
from matplotlib.colors import to_hex

from mamba2_lab import benchmark, plots
from mamba2_lab.benchmark import Measurement, Timing
from mamba2_lab.plots.mps_vs_cpu import _short
from mamba2_lab.plots.style import INK

# Reading the clock


def test_a_timeline_shows_who_was_busy_and_what_each_stopwatch_took() -> None:
    busy = {"we": [(0.0, 0.001), (0.004, 0.005)], "the device": [(0.001, 0.004)]}
    (axes,) = plots.timeline(busy, {"early": (0.0, 0.001), "late": (0.0, 0.0045)}).axes
    bars = [(bar.get_x(), bar.get_width(), bar.get_y() + bar.get_height() / 2) for bar in axes.patches]
    assert bars == [pytest.approx(bar) for bar in [(0, 1, 0), (4, 1, 0), (1, 3, 1)]]
    spans = [(list(line.get_xdata()), line.get_ydata()[0]) for line in axes.lines]
    assert spans == [([0, 1], 2), ([0, pytest.approx(4.5)], 3)]
    assert [text.get_text() for text in axes.texts] == ["1.00 ms", "4.50 ms"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["we", "the device", "early", "late"]
    assert axes.get_xlim()[1] > 5 and axes.yaxis_inverted()


def test_the_first_call_stands_apart_and_is_in_no_median() -> None:
    (axes,) = plots.repeats([0.09, 0.001, 0.003, 0.002, 0.009], mean=0.00375).axes
    first, others, middle, mean = axes.lines
    assert (list(first.get_xdata()), list(first.get_ydata())) == ([0], [90])
    assert (list(others.get_xdata()), list(others.get_ydata())) == ([1, 2, 3, 4], pytest.approx([1, 3, 2, 9]))
    assert middle.get_ydata()[0] == pytest.approx(2.5) and mean.get_ydata()[0] == pytest.approx(3.75)
    assert [text.get_text() for text in axes.get_legend().get_texts()][2:] == [
        "their median: 2.5 ms",
        "their mean: 3.75 ms",
    ]


# Curves


def test_time_is_drawn_in_microseconds_against_size_and_the_meeting_is_marked() -> None:
    curves = {"one": [1e-6, 4e-6], "other": [2e-6, 3e-6]}
    (axes,) = plots.time_by_size([16, 1024], curves, "tokens", meeting=1024).axes
    assert {line.get_label(): list(line.get_ydata()) for line in axes.lines[:2]} == {
        "one": pytest.approx([1, 4]),
        "other": pytest.approx([2, 3]),
    }
    assert all(list(line.get_xdata()) == [16, 1024] for line in axes.lines[:2])
    assert list(axes.lines[2].get_xdata()) == [1024, 1024]
    assert axes.get_xscale() == axes.get_yscale() == "log" and axes.get_xlabel() == "tokens"
    assert len(plots.time_by_size([16, 1024], curves, "tokens").axes[0].lines) == 2


def records(machine: str, factor: float) -> list[Measurement]:
    here = benchmark.here("cpu")
    here["machine"] = {**here["machine"], "name": machine, "threads": 2}
    return [
        Measurement("length", name, {"l": l}, Timing(factor * l, 0.5 * factor * l, 2 * factor * l, 9), **here)
        for l in (64, 16)
        for name in ("forward", "step")
    ]


def curves(axes) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_records_of_one_machine_share_a_panel_by_contestant() -> None:
    figure = plots.timings(records("chip", 1e-3), "l")
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "chip, 2 threads" and axes.get_xlabel() == "l, in tokens"
    rising = ([16, 64], pytest.approx([16, 64]))
    assert curves(axes) == {"forward": rising, "step": rising}
    band = axes.collections[0].get_paths()[0].vertices
    assert sorted({round(float(y), 6) for x, y in band if x == 16}) == [8, 32]


def test_records_of_several_machines_have_a_panel_for_each_contestant() -> None:
    figure = plots.timings(records("chip", 1e-3) + records("other", 3e-3), "l")
    forward, step = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["forward", "step"]
    for axes in (forward, step):
        found = curves(axes)
        assert found["chip, 2 threads"][1] == pytest.approx([16, 64])
        assert found["other, 2 threads"][1] == pytest.approx([48, 192])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["chip, 2 threads", "other, 2 threads"]


def test_records_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        plots.timings([], "l")
    with pytest.raises(ValueError, match="have the setting 'b'"):
        plots.timings(records("chip", 1.0), "b")


@pytest.mark.parametrize("size, text", [(1, "1"), (1000, "1,000"), (1024, "1k"), (4 * 2**20, "4M"), (96, "96")])
def test_sizes_are_short(size, text) -> None:
    assert _short(size) == text


# Tables


def test_a_ratio_of_one_is_white_and_reciprocal_ratios_are_as_far_from_it() -> None:
    (axes,) = plots.ratio_map([64, 128], [1, 8], [[0.5, 1.0], [1.0, 2.0]], "wide", "tokens", ("a", "b")).axes
    (image,) = axes.images
    assert image.get_array().tolist() == [[0.5, 1.0], [1.0, 2.0]]
    assert image.norm(1.0) == pytest.approx(0.5)
    assert image.norm(0.5) == pytest.approx(1 - image.norm(2.0))
    assert [text.get_text() for text in axes.texts] == ["0.50", "1.00", "1.00", "2.00"]
    assert axes.get_title(loc="left").startswith("time with a / time with b")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["64", "128"]


def test_an_error_is_written_in_its_cell_and_a_nan_can_be_read() -> None:
    errors = {"chunked": {"float32": 2e-7, "float16": float("nan")}, "step": {"float32": 1e-3, "float16": 0.5}}
    (axes,) = plots.error_ledger(errors, "relative error").axes
    found = {text.get_position(): text for text in axes.texts}
    assert {place: text.get_text() for place, text in found.items()} == {
        (0, 0): "2e-07", (1, 0): "nan", (0, 1): "1e-03", (1, 1): "5e-01",
    }  # fmt: skip
    assert to_hex(found[1, 0].get_color()) == INK
    assert [label.get_text() for label in axes.get_yticklabels()] == ["chunked", "step"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["float32", "float16"]


# The roofline


def test_operations_lie_where_their_counts_and_times_put_them_and_the_roof_bends_at_its_ridge() -> None:
    operations = {"prompt": {"in_proj": (8e9, 1e8, 0.1)}, "step": {"scan": (1e6, 4e6, 1e-3)}}
    figure = plots.roofline(peak=1e11, bandwidth=1e10, operations=operations)
    (axes,) = figure.axes
    roof, prompt, step = axes.lines
    left, ridge, right = roof.get_xdata()
    assert ridge == pytest.approx(10) and left < 0.25 and right > 80
    assert list(roof.get_ydata()) == pytest.approx([1e10 * left, 1e11, 1e11])
    assert (prompt.get_xdata()[0], prompt.get_ydata()[0]) == pytest.approx((80, 8e10))
    assert (step.get_xdata()[0], step.get_ydata()[0]) == pytest.approx((0.25, 1e9))
    assert [text.get_text() for text in axes.texts][2:] == ["in_proj", "scan"]
    low, high = axes.get_ylim()
    assert low < 1e9 and high > 1e11


def test_points_that_lie_together_share_a_label() -> None:
    operations = {"step": {"norm": (1e6, 1e6, 1e-2), "scan": (1e6, 2e6, 1e-4), "conv": (1.2e6, 1e6, 1e-2)}}
    (axes,) = plots.roofline(peak=1e11, bandwidth=1e10, operations=operations).axes
    found = {text.get_text(): text.xy for text in axes.texts[2:]}
    assert found == {"norm, conv": (pytest.approx(1.2), pytest.approx(1.2e8)), "scan": (0.5, pytest.approx(1e10))}
    operations = {"prompt": {"in_proj": (1e9, 1e8, 0.1)}, **operations}  # names of a second group stand on the left
    (axes,) = plots.roofline(peak=1e11, bandwidth=1e10, operations=operations).axes
    assert {text.get_text(): text.xy for text in axes.texts[2:]}["norm, conv"] == (1.0, pytest.approx(1e8))


def test_a_narrow_range_of_times_has_numbers_between_the_powers_of_ten() -> None:
    figure = plots.time_by_size([16, 64], {"one": [4e-6, 9e-6]}, "tokens")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    low, high = axes.get_ylim()
    shown = [
        label.get_text() for label in axes.get_yticklabels(which="minor") if low <= label.get_position()[1] <= high
    ]
    assert [text for text in shown if text] == ["5", "7"]
