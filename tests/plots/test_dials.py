"""Every dial shows where its pair points, and how far it turned to point there."""

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from support.pages import assert_texts_are_legible, of_kind, pixel_at, pixels, texts

from mamba2_lab.plots.debugger import NEGATIVE, POSITIVE
from mamba2_lab.plots.dials import HOLLOW, RADIUS, Hands, turn_dials
from mamba2_lab.plots.style import INK, PALE_INK

TURNS, OWN = torch.tensor([0.0, 0.25, -0.375, 0.5]), np.array([0.0, 0.2, -0.25, 3.0])
NOW = Hands("token 3, '$x$'", TURNS)


def hands(figure: Figure, colour: str) -> np.ndarray:
    """(s,2,2): from where to where each hand of a colour goes."""
    (lines,) = [lines for lines in of_kind(figure, LineCollection) if to_hex(lines.get_colors()[0]) == colour]
    return np.array(lines.get_segments())


def arcs(figure: Figure, colour: str) -> list[np.ndarray]:
    """The points around each arc of a colour."""
    (found,) = [arcs for arcs in of_kind(figure, PolyCollection) if to_hex(arcs.get_facecolor()[0]) == colour]
    return [path.vertices[:-1] for path in found.get_paths()]


def test_hands_point_where_the_pairs_do() -> None:
    figure = turn_dials(NOW, OWN, Hands("locked token 1, 'y'", [0.25, 0.25, 0.0, 0.0]))
    diagonal = -np.sqrt(0.5)
    for colour, expected in (
        (INK, [(1, 0), (0, 1), (diagonal, diagonal), (-1, 0)]),
        (PALE_INK, [(0, 1), (0, 1), (1, 0), (1, 0)]),
    ):
        found = hands(figure, colour)
        np.testing.assert_allclose(found[:, 0], [(0, 0), (1, 0), (2, 0), (3, 0)])
        np.testing.assert_allclose((found[:, 1] - found[:, 0]) / RADIUS, expected, atol=1e-7)


def test_arcs_lie_between_where_a_pair_came_from_and_where_it_points() -> None:
    figure = turn_dials(NOW, OWN)
    found = [*arcs(figure, POSITIVE), *arcs(figure, NEGATIVE)]
    assert len(found) == 3, "none where nothing turned"
    for points, centre, end, turned in zip(found, (1, 3, 2), (0.25, 0.5, -0.375), (0.2, 1.0, -0.25), strict=True):
        around = (points[:, 0] - centre + 1j * points[:, 1]) * np.exp(-2j * np.pi * (end - turned / 2))
        outer, inner = around[: len(around) // 2], around[len(around) // 2 :]
        for side, radius in ((outer, RADIUS), (inner, HOLLOW)):
            np.testing.assert_allclose(np.abs(side), radius)
            angles = np.unwrap(np.angle(side * np.sign(turned) if turned == 1.0 else side)) / (2 * np.pi)
            assert np.ptp(angles) == pytest.approx(abs(turned))
            if turned != 1.0:
                assert max(abs(angles)) == pytest.approx(abs(turned) / 2)


def test_dials_are_where_a_reader_sees_them() -> None:
    figure = turn_dials(NOW, OWN)
    page = of_kind(figure, LineCollection)[0]
    middle = (RADIUS + HOLLOW) / 2
    for place, colour in (
        ((1 + middle * np.cos(0.6 * np.pi / 2), middle * np.sin(0.6 * np.pi / 2)), POSITIVE),
        ((2, -middle), NEGATIVE),
        ((0, -middle), "#ffffff"),
    ):
        np.testing.assert_allclose(pixel_at(figure, page, *place), to_rgb(colour), atol=0.02)
    np.testing.assert_allclose(pixel_at(figure, page, 1, 0.6 * RADIUS), to_rgb(INK), atol=0.25)


def test_it_says_what_is_what() -> None:
    assert {"where each pair points at token 3, '$x$'", "0", "3", "clockwise"} <= texts(turn_dials(NOW, OWN)).keys()
    figure = turn_dials(NOW, OWN, Hands("locked token 1, 'y'", TURNS))
    assert "where each pair points at token 3, '$x$', and, dashed, at locked token 1, 'y'" in texts(figure)


@pytest.mark.parametrize("pairs", [1, 5, 16, 17, 32, 33, 64, 128])
def test_any_number_of_pairs_stays_on_the_page_and_in_its_row(pairs: int) -> None:
    turns = np.linspace(-0.5, 0.5, pairs)
    figure = turn_dials(Hands("token 123, 'return'", turns), turns, Hands("locked token 7, 'x'", turns[::-1]))
    assert_texts_are_legible(figure)
    margin = 1 - pixels(figure)
    for edge in (margin[0], margin[-1], margin[:, 0], margin[:, -1]):
        assert edge.max() == 0, "something reaches the edge of the page"
    assert len(hands(figure, INK)) == len(hands(figure, PALE_INK)) == pairs
    names = {int(text.removeprefix("pair ")) for text in texts(figure) if text.removeprefix("pair ").isdigit()}
    assert names == (set(range(pairs)) if pairs <= 32 else set(range(0, pairs, 24)))
    assert len(figure.artists) <= 14, "no artist for each dial"


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_a_number_is_refused_and_named(wrong: float) -> None:
    with pytest.raises(ValueError, match=f"turns must be finite; got .*{wrong}"):
        turn_dials(Hands("token 0, 'a'", [wrong]), [0.0])
    with pytest.raises(ValueError, match=f"own_turns must be finite; got .*{wrong}"):
        turn_dials(Hands("token 0, 'a'", [0.0]), [wrong])
