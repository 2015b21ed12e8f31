"""Where the pairs of channels of a turning memory point: a dial for each pair."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mamba2_lab.plots.debugger import LEFT, NEGATIVE, POSITIVE, RIGHT, finite
from mamba2_lab.plots.page import Page, blank
from mamba2_lab.plots.style import FAINT, INK, PALE_INK, WIDTH, styled

FEW = 32  # pairs that have dials large enough for a number below each
LARGEST = 0.62  # inches from one dial to the next
ABOVE, NUMBER = 0.62, 0.2  # inches above the dials, for what is written there; and below each, for its number
RADIUS, HOLLOW = 0.42, 0.24  # of a dial and of the hollow of its arc, in distances of dials
ROUND = 60  # points of a circle


class Hands(NamedTuple):
    """Where all pairs point at a token."""

    token: str  # in words
    turns: ArrayLike  # (s,) angles in turns, from pointing right, counter-clockwise


@styled
def turn_dials(now: Hands, own_turns: ArrayLike, locked: Hands | None = None) -> Figure:
    """A dial for each pair: its hand, an arc for how far it turned at this token, and its hand at a locked token.

    What is read of a token depends on the angle between the two hands alone.

    Args:
        own_turns: (s,) how far each pair turned when it came to where it points now; above 0 counter-clockwise.

    Raises:
        ValueError: as `checks` says it, if a number is not finite.
    """
    turns, own = finite("turns", now.turns), finite("own_turns", own_turns)
    columns = min(len(turns), 16 if len(turns) <= FEW else 24)
    pitch = min((WIDTH - LEFT - RIGHT) / columns, LARGEST)
    number = NUMBER if len(turns) <= FEW else 0.0
    rows = -(-len(turns) // columns)
    height = ABOVE + rows * (pitch + number) + 0.06
    page = Page(blank(height), (LEFT + pitch / 2, height - ABOVE - pitch / 2), (pitch, pitch))
    pairs = np.arange(len(turns))
    centres = np.stack([pairs % columns, -(pairs // columns) * (1 + number / pitch)], axis=1)  # (s,2)
    _arcs(page, centres, turns, own)
    circle = _around(np.linspace(0, 1, ROUND))
    page.lines(list(centres[:, None] + RADIUS * circle), FAINT)
    page.lines([[centre + (RADIUS, 0), centre + (1.16 * RADIUS, 0)] for centre in centres], FAINT)  # where 0 is
    if locked is not None:
        _hands(page, centres, finite("turns", locked.turns), PALE_INK, 1.4, (0, (2, 1.2)))
    _hands(page, centres, turns, INK, 1.8, "solid")
    _write(page, centres, pitch, number, now, locked)
    return page.figure


def _arcs(page: Page, centres: np.ndarray, turns: np.ndarray, own: np.ndarray) -> None:
    """From where each pair came to where it points; all the way round, if it turned that far."""
    part = np.linspace(0, 1, ROUND)
    for colour, chosen in ((POSITIVE, own > 0), (NEGATIVE, own < 0)):
        angles = turns[chosen, None] - np.clip(own[chosen, None], -1, 1) * part  # (k,points)
        outer, inner = (radius * _around(angles) for radius in (RADIUS, HOLLOW))
        rings = centres[chosen, None] + np.concatenate([outer, inner[:, ::-1]], axis=1)
        page.add(PolyCollection(list(rings), facecolors=colour, linewidths=0))


def _hands(page: Page, centres: np.ndarray, turns: np.ndarray, colour: str, width: float, style: object) -> None:
    ends = centres + RADIUS * _around(turns)
    page.add(LineCollection(list(np.stack([centres, ends], axis=1)), colors=colour, linewidths=width, linestyles=style))


def _write(page: Page, centres: np.ndarray, pitch: float, number: float, now: Hands, locked: Hands | None) -> None:
    left, above = -0.5, 0.5  # the corner of the first dial, in distances of dials
    says = f"where each pair points at {now.token}" + (f", and, dashed, at {locked.token}" if locked else "")
    page.write([(left, above + 0.4 / pitch, says)], 11)
    page.write([(left, above + 0.14 / pitch, "turned here: ")], 9.5)
    page.write([(left + 0.95 / pitch, above + 0.14 / pitch, "counter-clockwise")], 9.5, colour=POSITIVE, weight="bold")
    page.write([(left + 2.5 / pitch, above + 0.14 / pitch, "clockwise")], 9.5, colour=NEGATIVE, weight="bold")
    page.write([(left + 3.4 / pitch, above + 0.14 / pitch, "an angle of 0 points to the right")], 9.5, colour=PALE_INK)
    if number:
        names = [(x, y - 0.5, str(i)) for i, (x, y) in enumerate(centres)]
        page.write(names, 8.5, side="center", aligned="top")
        page.write([(left - 0.1 / pitch, centres[0, 1], "pair")], 9.5, side="right", aligned="center")
    else:
        firsts = [(left - 0.1 / pitch, y, f"pair {i}") for i, (x, y) in enumerate(centres) if x == 0]
        page.write(firsts, 9.5, side="right", aligned="center")


def _around(turns: np.ndarray) -> np.ndarray:
    """Points on a circle of radius 1: (...,) -> (...,2)."""
    return np.stack([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)], axis=-1)
