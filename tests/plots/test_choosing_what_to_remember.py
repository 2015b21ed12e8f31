"""The figures of notebook 03 show the data they were given."""

import math

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.font_manager import FontProperties
from matplotlib.image import BboxImage
from matplotlib.textpath import TextPath
from support.pages import DPI, assert_texts_are_legible, boxes, of_kind, pixels, texts

from mamba2_lab import plots
from mamba2_lab.plots.choosing_what_to_remember import amounts_after_each, verdict

WORDS = ["one", "two", "three"]
MARKED = [False, True, False]
DT = [1.0, 2.0, 0.5]
A = -0.5
# What is held of each word (row) after each word (column), by hand.
TABLE = np.array(
    [
        [1.0, math.exp(-1.0), math.exp(-1.25)],
        [0.0, 2.0, 2 * math.exp(-0.25)],
        [0.0, 0.0, 0.5],
    ]
)


def ends(collection, axis):
    return [float(segment[1][axis]) for segment in collection.get_segments()]


def bars(figure):
    """Those of the times, and those of the end."""
    return [lines for lines in of_kind(figure, LineCollection) if lines.get_linewidth() == 14]


def test_amounts_fade_by_the_time_after_a_word_and_not_by_its_own():
    np.testing.assert_allclose(amounts_after_each(DT, A), TABLE, atol=1e-12)


@pytest.mark.parametrize(
    "amounts, said",
    [
        ([0.0, 0.5, 0.0], "the marked words, to within 0.05"),
        ([0.04, 0.54, 0.0], "the marked words, to within 0.05"),
        ([0.1, 0.4, 0.0], "too little of two; too much of one"),
        ([0.1, 0.6, 0.1], "too much of one, two, three"),
        ([0.0, 0.0, 0.0], "too little of two"),
    ],
)
def test_the_verdict_names_the_words_that_are_off(amounts, said):
    assert verdict(WORDS, MARKED, amounts, 0.5) == said


def test_a_painted_memory_shows_gates_state_and_end():
    figure = plots.painted_memory(WORDS, DT, MARKED, 0.5, A)
    times, end = bars(figure)
    state, scale = of_kind(figure, BboxImage)
    (wanted,) = (lines for lines in of_kind(figure, LineCollection) if lines.get_linewidth() == 2)
    assert ends(times, axis=0) == DT
    np.testing.assert_allclose(np.asarray(state.get_array()), TABLE)
    assert state.norm.vmin == 0, "amounts are on a map that begins at 0"
    assert scale.get_cmap() == state.get_cmap() and scale.norm.vmax == state.norm.vmax == 1
    assert np.asarray(scale.get_array())[[0, -1], 0].tolist() == [1, 0], "and a bar says so, the most on top"
    np.testing.assert_allclose(ends(end, axis=0), TABLE[:, -1])
    np.testing.assert_allclose(ends(wanted, axis=0), [0.0, 0.5, 0.0])
    places = texts(figure)
    assert "at the end: too much of one, two, three" in places
    for each in (times, end):
        assert ends(each, axis=1) == [places[word][1] for word in WORDS] == [0.5, 1.5, 2.5]
    assert [np.mean(line[:, 1]) for line in wanted.get_segments()] == pytest.approx([0.5, 1.5, 2.5])


def test_rows_of_a_painted_memory_stand_beside_one_another_as_a_reader_sees_them():
    """The second of three words is in the middle of the page, in all panels, and its state begins at its own time."""
    figure = plots.painted_memory(WORDS, DT, MARKED, 0.5, A)
    covered = dict(boxes(figure))
    assert covered["one"].y0 > covered["two"].y1 and covered["two"].y0 > covered["three"].y1
    times, end = bars(figure)
    in_pixels = [each.get_transform().transform(each.get_segments()[1])[:, 1] for each in (times, end)]
    (word,) = {box.y0 + box.height / 2 for text, box in covered.items() if text == "two"}
    np.testing.assert_allclose(in_pixels, word, atol=2)
    cmap = of_kind(figure, BboxImage)[0].get_cmap()
    left, middle, right = (0.32 + 0.36 * (column + 0.5) / 3 for column in range(3))
    picture = pixels(figure)
    row = len(picture) - 1 - int(word * DPI / figure.dpi)
    for x, amount in ((left, 0.0), (middle, 2.0), (right, TABLE[1, 2])):
        shown = picture[row, int(x * picture.shape[1])]
        np.testing.assert_allclose(shown, cmap(min(amount, 1.0))[:3], atol=0.01)


@pytest.mark.parametrize("dt", [[0.0] * 10, [3.0] * 10, [0.3] * 10])
def test_texts_of_a_painted_memory_stand_clear_of_one_another(dt):
    words = "the train to Oslo leaves at nine from platform four".split()
    assert_texts_are_legible(plots.painted_memory(words, dt, [word == "nine" for word in words], 0.5, -1.0))


def test_marked_words_are_told_apart_in_every_part_of_it():
    figure = plots.painted_memory(WORDS, DT, MARKED, 0.5, A)
    widths = {text: box.width * 72 / figure.dpi for text, box in boxes(figure)}
    for word, is_marked in zip(WORDS, MARKED, strict=True):
        font = FontProperties(family="DejaVu Sans", weight="bold" if is_marked else "normal")
        assert widths[word] == pytest.approx(TextPath((0, 0), word, size=11, prop=font).get_extents().width, abs=1)
    for each in bars(figure):
        first, second, third = each.get_colors()
        assert (first == third).all() and (first != second).any()


@pytest.mark.parametrize("dt, A, named", [([1.0, 2.0], -1.0, "dt"), ([1.0, -0.1, 0.0], -1.0, "dt"), (DT, 0.5, "A")])
def test_a_painted_memory_names_what_it_cannot_draw(dt, A, named):
    with pytest.raises(ValueError, match=rf"^{named} must be .*; got"):
        plots.painted_memory(WORDS, dt, MARKED, 0.5, A)


def test_held_at_end_draws_a_line_for_each_memory_over_the_words():
    figure = plots.held_at_end(WORDS, MARKED, {"short": [1, 2, 3], "long": [3, 2, 1]})
    (axes,) = figure.axes
    assert {line.get_label(): line.get_ydata().tolist() for line in axes.lines} == {
        "short": [1, 2, 3],
        "long": [3, 2, 1],
    }
    assert [label.get_text() for label in axes.get_xticklabels()] == WORDS
    (band,) = axes.patches
    assert band.get_x() < 1 < band.get_x() + band.get_width(), "the band lies on the marked word"


def test_gates_of_both_memories_stand_over_their_tokens():
    decays = np.array([[1.0, 0.2], [0.9, 0.4], [0.0, 0.6], [0.5, 0.8]])  # (pieces, heads)
    figure = plots.kept_over_a_line(WORDS, DT, A, ["a", " ", "b", "\n"], decays, ["first", "second"])
    above, below = figure.axes[:2]
    heights = {bars.get_label().partition(":")[0]: [bar.get_height() for bar in bars] for bars in above.containers}
    assert heights["dt"] == DT
    assert heights["decay"] == pytest.approx([math.exp(-0.5), math.exp(-1.0), math.exp(-0.25)])
    image = below.images[0]
    np.testing.assert_array_equal(np.asarray(image.get_array()), decays.T)
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)
    assert [label.get_text() for label in below.get_xticklabels()] == ["a", "·", "b", "↵"]
    assert [label.get_text() for label in below.get_yticklabels()] == ["first", "second"]


def test_recall_draws_every_training_and_the_guesses():
    runs = {"sees": [[1.0, 0.9], [0.8, 0.7]], "blind": [[0.5, 0.4]]}
    figure = plots.recall_by_length([16, 64], runs, {"a coin": 0.5, "nothing": 0.1}, trained=64)
    (axes,) = figure.axes
    drawn = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() in ("o", "s")]
    assert drawn == [[[16, 1.0], [64, 0.9]], [[16, 0.8], [64, 0.7]], [[16, 0.5], [64, 0.4]]]
    levels = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert levels == [0.5, 0.1] and {"a coin", "nothing"} <= {text.get_text() for text in axes.texts}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["sees", "blind"]


def test_decay_tables_share_one_scale():
    one, two = np.array([[0.1, 1.0], [2.0, 3.0]]), np.array([[0.5, 0.5], [8.0, 8.0]])
    figure = plots.decay_tables({"one": one, "two": two})
    for axes, table in zip(figure.axes[:2], (one, two), strict=True):
        np.testing.assert_array_equal(np.asarray(axes.images[0].get_array()), table)
        assert (axes.images[0].norm.vmin, axes.images[0].norm.vmax) == (0.1, 8.0)


def test_two_step_sizes_pair_the_same_token_and_head():
    right, wrong = np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([[0.01, 0.02], [0.03, 0.04]])
    (axes,) = plots.two_step_sizes(right, wrong, ("once", "twice")).axes
    points, equal = axes.lines
    assert points.get_xydata().tolist() == [[0.1, 0.01], [0.2, 0.02], [0.3, 0.03], [0.4, 0.04]]
    assert equal.get_xdata().tolist() == equal.get_ydata().tolist() == [0.1, 0.4]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("dt, once", "dt, twice")
