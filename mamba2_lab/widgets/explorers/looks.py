"""What the state debugger shows of a layer, as HTML: each kind of layer has its own look."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from matplotlib.figure import Figure
from torch import Tensor

from mamba2_lab.inspect import LayerTrace
from mamba2_lab.plots import debugger as plots
from mamba2_lab.plots import dials
from mamba2_lab.plots.debugger import FRAMES, across
from mamba2_lab.plots.style import INK, PALE_INK, as_html
from mamba2_lab.words import quoted

STEP = 4  # how many times as far back each frame of the film lies as the one after it


class Place(NamedTuple):
    """What is looked at: a head, a token, and another token to compare it with, if any."""

    layer: int
    head: int
    token: int
    locked: int | None

    @property
    def tokens(self) -> list[int]:
        """The token, and the locked one."""
        return [self.token] if self.locked is None else [self.token, self.locked]


class Look:
    """Of any layer: where its heads look. Each method gives HTML, and "" where a layer has nothing of that.

    Args:
        layer: its trace. pieces: the text of each token.
    """

    called: ClassVar[str] = "head"
    weights_of: ClassVar[str] = "x"  # what hidden attention weighs

    def __init__(self, layer: LayerTrace, pieces: Sequence[str]) -> None:
        self.layer: Any = layer  # what more there is depends on the kind
        self.pieces = pieces

    def facts(self, place: Place) -> str:
        """The numbers of the token and of the locked one, and what holds for the head."""
        titles = [f"token {token}, {quoted(self.pieces[token])}" for token in place.tokens]
        if place.locked is not None:
            titles[1] = f"locked: {titles[1]}"
        quantities = {name: [f"{value:.3g}" for value in values] for name, values in self._numbers(place).items()}
        cells = [("", titles), *{**quantities, **self._words(place)}.items()]
        table = "".join(
            f'<tr><td style="padding-right: 14px">{name}</td>'
            + "".join(f'<td style="padding-right: 22px">{html.escape(value)}</td>' for value in values)
            + "</tr>"
            for name, values in cells
        )
        return f'<div style="line-height: 1.4">{self._of_the_head(place)}<table>{table}</table></div>'

    def film(self, place: Place) -> str:
        """How the state came to be what it is after the token; and, at the end, the locked token's."""
        return ""

    def rows(self, place: Place) -> str:
        """The row of hidden attention of the token, and of the locked one."""
        attention = self.layer.attention(place.head, place.tokens)
        said = []
        for target, row in zip(place.tokens, attention, strict=True):
            source = int(row.abs().argmax())
            said.append(
                f"token {target}, {quoted(self.pieces[target])}, reads most of token {source}, "
                f"{quoted(self.pieces[source])}, with weight {row[source]:.3g}"
            )
        alt = (
            f"Bars: with which weight the {self.weights_of} of each token enters the output of {self.called} "
            f"{place.head}; {'; '.join(said)}."
        )
        given = self.pieces, dict(zip(place.tokens, attention, strict=True))
        return _live(plots.attention_rows(*given, *self._weighed()), alt)

    def dials(self, place: Place) -> str:
        """Where the pairs of a turning memory point."""
        return ""

    def charts(self, place: Place) -> str:
        """What the head did at each token."""
        return ""

    def marks(self, place: Place) -> str:
        """Lines through the charts, at the selected token and at the locked one."""
        return ""

    def _of_the_head(self, place: Place) -> str:
        raise NotImplementedError

    def _numbers(self, place: Place) -> dict[str, list[Tensor]]:
        """By name, of each of the place's tokens."""
        raise NotImplementedError

    def _words(self, place: Place) -> dict[str, list[str]]:
        """What is told of them besides."""
        return {}

    def _weighed(self) -> tuple[str, ...]:
        return () if self.weights_of == "x" else (self.weights_of,)


class OfStates(Look):
    """A layer whose heads have states."""

    # Of the height of the charts' figure, in percent: above the first chart and below the last one.
    edges: ClassVar[tuple[float, float]]

    def film(self, place: Place) -> str:
        """How the state came to be what it is after the token; and, at the end, the locked token's."""
        tokens = frames(place.token)
        if place.locked is not None:
            tokens = [*tokens[-(FRAMES - 1) :], place.locked]
        states = self.layer.states(place.head, tokens)
        names = [f"{token} {quoted(self.pieces[token])}" for token in tokens]
        if place.locked is not None:
            names[-1] = f"locked: {names[-1]}"
        alt = (
            f"The state of {self.called} {place.head} as a heatmap after each of these tokens, on one scale: "
            f"{'; '.join(names)}."
        )
        return _live(plots.film_strip(dict(zip(names, states, strict=True))), alt)

    def charts(self, place: Place) -> str:
        """What the head did at each token."""
        columns = self._columns(place.head)
        ends = ", ".join(f"{name} {column.min():.3g} to {column.max():.3g}" for name, column in columns.items())
        alt = (
            f"Bars for each of {len(self.pieces)} tokens, of layer {place.layer}, {self.called} {place.head}: "
            f"{ends}.{self._told_of_tracks()}"
        )
        return _live(self._draw(*columns.values(), *self._tracks(place.head)), alt)

    def marks(self, place: Place) -> str:
        """Lines through the charts, at the selected token and at the locked one."""
        lines = [(place.token, f"2px solid {INK}")]
        if place.locked is not None:
            lines.append((place.locked, f"2px dashed {PALE_INK}"))
        # From the top of the first chart to the foot of the last one.
        top, bottom = self.edges
        place_of = f"position: absolute; top: {top:g}%; bottom: {bottom:g}%; margin-left: -1px; pointer-events: none"
        place_of += "; box-shadow: 0 0 0 1px #ffffffa0"  # to be seen before bars
        l = len(self.pieces)
        return "".join(
            f'<i style="{place_of}; left: {100 * across(token, l):.3f}%; border-left: {line}"></i>'
            for token, line in lines
        )

    def _columns(self, head: int) -> dict[str, Tensor]:
        """(l,) by name: what has a chart."""
        raise NotImplementedError

    def _tracks(self, head: int) -> list[Tensor]:
        """(l,rows): what has a picture below the charts."""
        return []

    def _told_of_tracks(self) -> str:
        return ""

    def _draw(self, *columns: Tensor) -> Figure:
        raise NotImplementedError


class OfMamba2(OfStates):
    """A layer whose heads fade at one rate each."""

    edges = (7.0, 16.5)

    def _of_the_head(self, place: Place) -> str:
        rest, here = self.layer.half_life_at_rest[place.head].item(), self.layer.half_life[place.head].item()
        return (
            f"Half-life of layer {place.layer}, head {place.head}: <b>{in_tokens(here)}</b> on "
            f"this text, <b>{in_tokens(rest)}</b> at rest."
        )

    def _numbers(self, place: Place) -> dict[str, list[Tensor]]:
        return {name: [table[token, place.head] for token in place.tokens] for name, table in self._tables().items()}

    def _tables(self) -> dict[str, Tensor]:
        """(l,h) each."""
        layer = self.layer
        steps = {"step size dt": layer.dt, "decay exp(dt A)": layer.decay}
        return {**steps, "written |dt x Bᵀ|": layer.written, "read |h C|": layer.read}

    def _words(self, place: Place) -> dict[str, list[str]]:
        half_lives = [self.layer.half_lives[token, place.head].item() for token in place.tokens]
        return {"half of what it wrote is gone after": [in_tokens(value, "this text's end") for value in half_lives]}

    def _columns(self, head: int) -> dict[str, Tensor]:
        layer = self.layer
        tables = {"dt": layer.dt, "decay": layer.decay, "written": layer.written, "read": layer.read}
        return {name: table[:, head] for name, table in tables.items()}

    def _draw(self, *columns: Tensor) -> Figure:
        return plots.strengths(self.pieces, *columns)


class OfMamba3(OfMamba2):
    """A layer whose memory turns, pair by pair, and which writes at both ends of a step."""

    edges = (4.4, 10.2)

    def dials(self, place: Place) -> str:
        """Where each pair points at the token, how far it has turned to it, and where it points at the locked one."""
        layer, head = self.layer, place.head
        now, *locked = [
            dials.Hands(f"{said} {token}, {quoted(self.pieces[token])}", layer.turns[token, head])
            for said, token in zip(("token", "locked token"), place.tokens, strict=False)
        ]
        own = layer.own_turns[place.token, head]
        alt = (
            f"A dial for each of {len(own)} pairs of channels of head {place.head}: where it points at {now.token}, "
            f"and how far it turned there, {_farthest(own)}"
            + "".join(f"; and, dashed, where it points at {other.token}" for other in locked)
            + "."
        )
        return _live(dials.turn_dials(now, own, *locked), alt)

    def _words(self, place: Place) -> dict[str, list[str]]:
        own = [self.layer.own_turns[token, place.head] for token in place.tokens]
        return {"turned": list(map(_farthest, own)), **super()._words(place)}

    def _tables(self) -> dict[str, Tensor]:
        layer = self.layer
        steps = {
            "step size dt": layer.dt,
            "decay exp(dt A)": layer.decay,
            "part of the step written at its end λ": layer.lam,
        }
        return {**steps, "written |(γ+δ) x kᵀ|": layer.written, "read |h q|": layer.read}

    def _columns(self, head: int) -> dict[str, Tensor]:
        columns, layer = super()._columns(head), self.layer
        return {"dt": columns["dt"], "decay": columns["decay"], "lambda": layer.lam[:, head], **columns}

    def _tracks(self, head: int) -> list[Tensor]:
        return [self.layer.own_turns[:, head]]

    def _told_of_tracks(self) -> str:
        return " Below them, in colours, how far each pair of channels turns at each token."

    def _draw(self, *columns: Tensor) -> Figure:
        return plots.turning_strengths(self.pieces, *columns)


class OfMamba1(OfStates):
    """A layer whose channels keep numbers that fade at rates of their own."""

    called = "channel"
    edges = (5.5, 12.8)

    def _of_the_head(self, place: Place) -> str:
        half_lives = self.layer.half_life_by_state[place.head]
        shortest, longest = in_tokens(half_lives.min().item()), in_tokens(half_lives.max().item())
        return (
            f"Layer {place.layer} is Mamba-1: each of {len(half_lives)} numbers of channel {place.head} fades at its "
            f"own rate, with half-lives of <b>{shortest}</b> to <b>{longest}</b> on this text."
        )

    def _numbers(self, place: Place) -> dict[str, list[Tensor]]:
        layer = self.layer
        tables = {"step size dt": layer.dt, "written |dt x Bᵀ|": layer.written, "read |h C|": layer.read}
        return {name: [table[token, place.head] for token in place.tokens] for name, table in tables.items()}

    def _words(self, place: Place) -> dict[str, list[str]]:
        kept = self.layer.decays(place.head)[place.tokens]
        return {"decays exp(dt A)": [f"{row.min():.3g} to {row.max():.3g}" for row in kept]}

    def _columns(self, head: int) -> dict[str, Tensor]:
        tables = {"dt": self.layer.dt, "written": self.layer.written, "read": self.layer.read}
        return {name: table[:, head] for name, table in tables.items()}

    def _tracks(self, head: int) -> list[Tensor]:
        return [self.layer.decays(head)]

    def _told_of_tracks(self) -> str:
        return " Below them, in colours, what each number of its state keeps at each token."

    def _draw(self, *columns: Tensor) -> Figure:
        return plots.channel_strengths(self.pieces, *columns)


class OfAttention(Look):
    """A layer without states: it looks back at tokens themselves."""

    weights_of = "value"

    def _of_the_head(self, place: Place) -> str:
        return (
            f"Layer {place.layer} is attention: head {place.head} looks back at every token with the weights of a "
            "softmax. It has no state to show, no step sizes, no decays and no turns."
        )

    def _numbers(self, place: Place) -> dict[str, list[Tensor]]:
        rows = self.layer.attention(place.head, place.tokens)
        own = [row[token] for row, token in zip(rows, place.tokens, strict=True)]
        before = list(self.layer.attention_before(place.head, place.tokens))
        return {"of its attention, to itself": own, "to tokens before this text": before}


LOOKS: Mapping[str, type[Look]] = {  # by the name of the mixer
    "mamba1": OfMamba1,
    "mamba2": OfMamba2,
    "mamba3": OfMamba3,
    "attention": OfAttention,
}


def look_of(layer: LayerTrace, pieces: Sequence[str]) -> Look:
    """The look of a layer."""
    return LOOKS[layer.mixer](layer, pieces)


def frames(token: int) -> list[int]:
    """The tokens whose states are shown for this one: itself, and those 1, 4, 16, ... tokens before, oldest first."""
    back = [0] + [STEP**i for i in range(FRAMES - 1)]
    return [token - distance for distance in reversed(back) if distance <= token]


def relative(row: Sequence[float]) -> list[float]:
    """Each weight as a part of the largest, with its sign."""
    most = max(map(abs, row)) or 1.0
    return [weight / most for weight in row]


def in_tokens(value: float, end: str = "") -> str:
    """A number of tokens in words; infinity is beyond the end, where there is one."""
    if math.isinf(value):
        return end or "infinite"
    return f"{value:,.1f} tokens" if value < 1000 else f"{value:,.0f} tokens"


def _farthest(own_turns: Tensor) -> str:
    """The pair that turned farthest, in words."""
    pair = int(own_turns.abs().argmax())
    return f"most of all pair {pair}, by {own_turns[pair]:.3g} turns"


def _live(figure: Figure, alt: str) -> str:
    return as_html(figure, alt, caption="", live=True)
