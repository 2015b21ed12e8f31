"""The figures of notebook 05 show the numbers they are given; the four steps they draw are those of the recurrence."""

import numpy as np
import pytest
import torch
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from support.oracle.mamba2 import recurrence
from support.pages import assert_texts_are_legible, boxes, of_kind, texts

from mamba2_lab import plots
from mamba2_lab.plots.chunks import STEP_COLOURS, FourSteps
from mamba2_lab.widgets.explorers.chunks import four_steps

WORDS = list("abcdefg")
L, N = len(WORDS), 2


@pytest.fixture
def text():
    """log_decay (l,), B, C (l,n), all positive but log_decay."""
    generator = torch.Generator().manual_seed(0)
    B, C = torch.rand(2, L, N, generator=generator)
    return -torch.rand(L, generator=generator), B, C


def states_of_the_loop(log_decay, B, C):
    """Outputs (l,l) and, for every length, the state (n,l), when each word writes in a channel of its own."""
    x = torch.eye(len(log_decay))[None, :, None]
    arguments = x, log_decay[None, :, None], B[None, :, None], C[None, :, None]
    runs = [recurrence(*(part[:, :length] for part in arguments)) for length in range(len(log_decay) + 1)]
    return runs[-1][0][0, :, 0], [state[0, 0].mT for _, state in runs]


@pytest.mark.parametrize("chunk_size", [2, 3, 7])
def test_four_steps_are_those_of_the_recurrence(text, chunk_size):
    log_decay, B, C = text
    steps = four_steps(log_decay, B, C, chunk_size)
    y, states = states_of_the_loop(*text)
    chunk = torch.arange(L) // chunk_size
    same = chunk[:, None] == chunk
    assert torch.allclose(steps.inside.double(), y * same, atol=1e-6)
    assert torch.allclose(steps.below.double(), y * ~same, atol=1e-6)
    ends = [min(start + chunk_size, L) for start in range(0, L, chunk_size)]
    assert torch.allclose(steps.states.double(), torch.stack([states[end] for end in ends]), atol=1e-6)
    for start, end in zip([0, *ends], ends, strict=False):
        part = slice(start, end)
        _, alone = states_of_the_loop(log_decay[part], B[part], C[part])
        assert torch.allclose(steps.left_behind[:, part].double(), alone[-1], atol=1e-6)
        if start:
            assert torch.allclose(steps.readers[part].double() @ states[start], y[part] * ~same[part], atol=1e-6)


def colour_at(figure, x, y):
    """The colour of the cell in which this point lies."""
    cells = of_kind(figure, PolyCollection)[0]
    for path, colour in zip(cells.get_paths(), cells.get_facecolor(), strict=True):
        (left, top), (right, bottom) = path.vertices[:-1].min(axis=0), path.vertices[:-1].max(axis=0)
        if left < x < right and top < y < bottom:
            return colour[:3]
    raise AssertionError(f"no cell at {x}, {y}")


def full_strength(l=6, n=2, chunk_size=3):
    chunk = np.arange(l) // chunk_size
    inside, below = np.tril(np.ones((l, l))), np.zeros((l, l))
    inside[chunk[:, None] != chunk], below[chunk[:, None] > chunk] = 0, 1
    return FourSteps(inside, np.ones((n, l)), np.ones((2, n, l)), np.ones((l, n)), below)


# In a table of six words in chunks of 3: a cell that each step fills, by (x, y)
PLACES = {1: (0.5, 1.5), 2: (0.5, 7.2), 3: (0.5, 9.7), 4: (1.5, 4.5)}


@pytest.mark.parametrize("until", range(5))
def test_chunk_steps_fills_what_is_done_and_tints_the_rest(until):
    figure = plots.chunk_steps("abcdef", full_strength(), 3, until=until)
    for step, place in PLACES.items():
        colour = np.array(to_rgb(STEP_COLOURS[step - 1]))
        shown = colour_at(figure, *place)
        assert np.allclose(shown, colour) == (step <= until), (step, shown)
        assert not np.allclose(shown, 1), "what is to come is tinted"


def test_chunk_steps_puts_each_amount_in_its_row_and_column():
    """Six words in chunks of 3, and a single 1 in each part."""
    steps = FourSteps(np.zeros((6, 6)), np.zeros((2, 6)), np.zeros((2, 2, 6)), np.zeros((6, 2)), np.zeros((6, 6)))
    steps.inside[5, 3] = steps.left_behind[1, 4] = steps.states[1, 0, 2] = steps.readers[3, 1] = steps.below[4, 2] = 1
    figure = plots.chunk_steps("abcdef", steps, 3)
    cells = of_kind(figure, PolyCollection)[0]
    strongest = [np.allclose(to_rgb(step), colours[:3]) for step in STEP_COLOURS for colours in cells.get_facecolor()]
    corners = [path.vertices[0].round(2).tolist() for path in cells.get_paths()] * len(STEP_COLOURS)
    full = [corner for corner, is_full in zip(corners, strongest, strict=True) if is_full]
    assert sorted(full) == sorted([[3.0, 5.0], [4.0, 7.9], [2.0, 11.9], [7.6, 3.0], [2.0, 4.0]])


def test_chunk_steps_writes_the_amounts_of_what_is_done_and_names_the_columns_of_the_state():
    steps = FourSteps(np.zeros((6, 6)), np.zeros((2, 6)), np.zeros((2, 2, 6)), np.zeros((6, 2)), np.zeros((6, 6)))
    steps.inside[5, 3], steps.states[1, 0, 2] = 0.456, 0.25
    shown = texts(plots.chunk_steps("abcdef", steps, 3, columns=("thing", "event")))
    assert shown[".46"] == (3.5, 5.5) and shown[".25"] == (2.5, 12.4)
    assert shown["event"] == (pytest.approx(8.1), pytest.approx(2.7)), "above the readers, which are written last"
    names = [text for text, _ in boxes(plots.chunk_steps("abcdef", steps, 3, columns=("thing", "event")))]
    assert names.count("thing") == 4, "beside three strips and above the readers"
    assert ".25" not in texts(plots.chunk_steps("abcdef", steps, 3, until=2)), "step 3 is still to come"


def test_chunk_steps_shades_by_amount_and_leaves_the_future_white():
    steps = full_strength()
    steps.inside[1, 0] = 0.5
    figure = plots.chunk_steps("abcdef", steps, 3)
    half, whole, none = (colour_at(figure, x, y) for x, y in ((0.5, 1.5), (0.5, 0.5), (1.5, 0.5)))
    assert whole.sum() < half.sum() < none.sum()
    with pytest.raises(AssertionError, match="no cell"):
        colour_at(figure, 4.5, 0.5)


def test_chunk_steps_stays_on_its_canvas_for_the_most_chunks(text):
    figure = plots.chunk_steps(WORDS, four_steps(*text, 2), 2)
    assert_texts_are_legible(figure)
    for artist in of_kind(figure, PolyCollection):
        corners = artist.get_transform().transform(np.concatenate([path.vertices for path in artist.get_paths()]))
        assert (corners >= 0).all() and (corners <= figure.bbox.p1).all(), artist


def test_chunk_steps_names_columns_from_left_to_right_and_rows_from_top_to_bottom():
    """The third of six words is the only one that is drawn: blanks leave no outline."""
    figure = plots.chunk_steps(["", "", "mm", "", "", ""], full_strength(), 3)
    own = of_kind(figure, PolyCollection)[0].get_transform().inverted()  # from pixels
    columns, rows = (own.transform(box.get_points()) for text, box in boxes(figure) if text == "mm")
    (x0, y1), (x1, y0) = columns
    assert 2 < x0 < x1 < 3 and (x0 + x1) / 2 == pytest.approx(2.5, abs=0.1)
    assert -1 < y0 < y1 == pytest.approx(-0.3, abs=0.02), "upright: the letters stand on their base line"
    (x0, y1), (x1, y0) = rows
    assert x1 == pytest.approx(-0.15, abs=0.05) and 2 < y0 < y1 < 3


def test_costs_are_drawn_in_millions_and_milliseconds():
    at = {"loop": [64, 128], "chunks": [64]}
    counted, measured = {"loop": [1e6, 2e6], "chunks": [5e5]}, {"loop": [0.25, 0.5], "chunks": [0.001]}
    left, right = plots.costs(at, counted, measured, along="length").axes
    assert [list(line.get_ydata()) for line in left.lines] == [[1, 2], [0.5]]
    assert [list(line.get_ydata()) for line in right.lines] == [[250, 500], [1]]
    assert [list(line.get_xdata()) for line in left.lines] == [[64, 128], [64]]
    assert left.get_xlabel() == right.get_xlabel() == "length"
    assert [right.yaxis.get_major_formatter()(value) for value in (0.005, 20, 2000)] == ["0.005", "20", "2,000"]
    assert left.get_xscale() == left.get_yscale() == right.get_yscale() == "log"


def test_errors_after_a_cut_stand_beside_a_line_that_halves():
    errors = {"A": torch.tensor([0.8, 0.4, 0.2, 0.1, 0.05]), "B": torch.tensor([0.5, 0.5, 0.4, 0.4, 0.3])}
    (axes,) = plots.errors_after_a_cut(errors, half_life=2.0, width=4).axes
    a, b, halving = axes.lines
    assert np.allclose(a.get_ydata(), errors["A"]) and np.allclose(b.get_ydata(), errors["B"])
    fading = np.asarray(halving.get_ydata())
    assert np.allclose(fading[2:] / fading[:-2], 0.5)
    (band,) = axes.patches
    assert [t for t in range(5) if band.get_x() < t < band.get_x() + band.get_width()] == [0, 1, 2]
