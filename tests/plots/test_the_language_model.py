"""The figures of notebook 07 show the numbers they were given, where they belong."""

import math

import numpy as np
import pytest
import torch

from mamba2_lab import plots


def labels(ticks) -> list[str]:
    return [tick.get_text() for tick in ticks]


def test_the_map_gives_the_shapes_and_keeps_every_text_in_its_box() -> None:
    figure = plots.model_map(8, 128, 264)
    (axes,) = figure.axes
    figure.draw_without_rendering()
    texts = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert {"the table\n264 × 128", "the table\n128 × 264", "block 8"} <= texts.keys()
    boxes = [patch.get_window_extent() for patch in axes.patches if patch.get_facecolor()[3] and patch.get_fill()]
    for name in ("the table\n264 × 128", "the table\n128 × 264", "norm", "norm → mixer"):
        inside = [box for box in boxes if box.x0 < texts[name].x0 and texts[name].x1 < box.x1]
        assert any(box.y0 < texts[name].y0 and texts[name].y1 < box.y1 for box in inside), name


def test_the_map_stays_on_the_page() -> None:
    figure = plots.model_map(8, 128, 264)
    figure.draw_without_rendering()
    page = figure.bbox
    for artist in (*figure.axes[0].texts, *figure.axes[0].patches):
        box = artist.get_window_extent()
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, artist


def test_expectations_puts_the_likeliest_byte_of_each_prompt_on_top() -> None:
    figure = plots.expectations(["fo", "for "], [["r", " "], ["i", "\n"]], torch.tensor([[0.9, 0.1], [0.5, 0.25]]))
    for axes, title, guesses, bars in zip(
        figure.axes, ("fo▁", "for·▁"), (["r", "·"], ["i", "↵"]), ([0.9, 0.1], [0.5, 0.25]), strict=True
    ):
        assert axes.get_title(loc="left") == title
        assert labels(axes.get_yticklabels()) == guesses
        assert [bar.get_width() for bar in axes.patches] == pytest.approx(bars)
        assert axes.yaxis_inverted(), "row 0 belongs at the top"
        assert axes.get_xlim() == (0, 1)


def test_the_lens_writes_each_guess_on_the_cell_of_its_layer_and_its_byte() -> None:
    given = torch.tensor([[0.0, 0.1], [0.2, 0.9], [1.0, 0.6]])
    guesses = [["a", "b"], [" ", "d"], ["e", "\n"]]
    figure = plots.logit_lens(["x", " ", "z"], [3.0, 0.5], guesses, given)
    above, below = figure.axes[:2]
    assert [bar.get_height() for bar in above.patches] == [3.0, 0.5]
    assert np.array_equal(np.asarray(below.images[0].get_array()), given.numpy())
    assert below.images[0].get_clim() == (0, 1)
    written = {text.get_position(): text.get_text() for text in below.texts}
    assert written == {(0, 0): "a", (1, 0): "b", (0, 1): "·", (1, 1): "d", (0, 2): "e", (1, 2): "↵"}
    assert labels(below.get_xticklabels()) == ["x", "·"]
    assert labels(below.get_yticklabels()) == ["table", "1", "2"]
    assert "z" in below.get_xlabel(), "the byte that follows the last column must be named"


def test_the_letters_of_the_lens_stand_out_from_their_cells() -> None:
    given = torch.linspace(0, 1, 41)[None]
    figure = plots.logit_lens(["x"] * 42, [1.0] * 41, [["a"] * 41], given)
    below = figure.axes[1]
    image = below.images[0]
    for text, value in zip(below.texts, given[0].tolist(), strict=True):
        ratio = contrast(image.cmap(image.norm(value)), text.get_color())
        assert ratio > 3.0, f"at {value:.2f}: {ratio:.1f}"  # WCAG 2.1's bound for what is larger than body text


def contrast(one, other) -> float:
    """The contrast of two colours as WCAG 2.1 defines it, from 1 to 21."""
    from matplotlib.colors import to_rgb

    def luminance(colour) -> float:
        channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return float(np.dot([0.2126, 0.7152, 0.0722], channels))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_shares_of_each_model_fill_its_bar() -> None:
    figure = plots.weight_shares(["one", "two"], {"table": [10, 600_000], "blocks": [30, 1_400_000]})
    (axes,) = figure.axes
    spans = {(round(bar.get_y() + bar.get_height() / 2), bar.get_x(), bar.get_width()) for bar in axes.patches}
    assert spans == {(0, 0, 25), (0, 25, 75), (1, 0, 30), (1, 30, 70)}
    assert labels(axes.get_yticklabels()) == ["one  0M", "two  2M"]
    assert labels(figure.legends[0].get_texts()) == ["table", "blocks"]
    assert {(text.get_text(), text.get_position()) for text in axes.texts} == {
        ("25", (12.5, 0)),
        ("75", (62.5, 0)),
        ("30", (15.0, 1)),
        ("70", (65.0, 1)),
    }


def test_a_signal_that_vanishes_or_explodes_ends_its_line() -> None:
    runs = {"healthy": ([1.0, 2.0, 3.0], [0.3, 0.2, 0.1]), "ill": ([1e-3, 0.0, 0.0], [math.inf, math.nan, 2.0])}
    figure = plots.signal_through_depth(runs)
    left, right = figure.axes
    nothing = np.nan
    expected = {left: [[1, 2, 3], [1e-3, nothing, nothing]], right: [[0.3, 0.2, 0.1], [nothing, nothing, 2]]}
    for axes, curves in expected.items():
        assert axes.get_yscale() == "log"
        assert axes.get_ylim() == (1e-8, 1e8)
        for line, curve in zip(axes.lines, curves, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), curve)
    assert labels(figure.legends[0].get_texts()) == list(runs)
    for one, other in zip(left.lines, right.lines, strict=True):
        assert (one.get_color(), one.get_linestyle()) == (other.get_color(), other.get_linestyle())
    looks = {(line.get_color(), line.get_linestyle()) for line in left.lines}
    assert len(looks) == len(runs)


def test_memory_reach_draws_each_model_over_the_distances_and_leaves_silence_out() -> None:
    influence = {"hears": torch.tensor([1.0, 0.5, 0.25]), "deaf": torch.tensor([1.0, 0.0, 0.0])}
    figure = plots.memory_reach([1, 8, 64], influence)
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_ylim()[0] == 1e-6, "float32 rounds in the seventh digit"
    assert labels(axes.get_xticklabels()) == ["1", "8", "64"]
    for line, changes in zip(axes.lines, ([1, 0.5, 0.25], [1, np.nan, np.nan]), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [1, 8, 64])
        np.testing.assert_array_equal(line.get_ydata(), changes)
    assert labels(figure.legends[0].get_texts()) == list(influence)
