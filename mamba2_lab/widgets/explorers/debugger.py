"""The state debugger: walk along a text, and see what each head has in memory, writes and reads."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from ipywidgets import HTML, BoundedIntText, Box, Layout, ToggleButton, VBox, Widget
from matplotlib.figure import Figure

from mamba2_lab.inspect import LayerTrace, Trace
from mamba2_lab.plots import debugger as plots
from mamba2_lab.plots.debugger import FRAMES, across
from mamba2_lab.plots.style import INK, PALE_INK, as_html
from mamba2_lab.widgets.token_strip import TokenStrip
from mamba2_lab.widgets.view import error_html, undisturbed
from mamba2_lab.words import quoted

STEP = 4  # how many times as far back each frame of the film lies as the one after it


NOTHING: Hashable = None  # the key of an empty panel


class Place(NamedTuple):
    """What is looked at: a head, a token, and another token to compare it with, if any."""

    layer: int
    head: int
    token: int
    locked: int | None


class StateDebugger(VBox):
    """Walk along a traced text: states, step sizes and hidden attention of one head. Put last in a cell, it is shown.

    A click on a token selects it, and the arrow keys walk on from there. The text takes the colours of the token's row
    of hidden attention, each weight as a part of the row's largest. `lock` keeps the selected token, and whatever is
    selected then is shown beside it.

    Args:
        trace: of the text, as `inspect.trace` gives it.
        pieces: the text of each of its tokens.

    Attributes:
        controls: `token`, a `TokenStrip` whose `selected` is set; `layer`, `head` and `lock`, whose `value` is.
            Setting them from Python acts as a reader's hand does.
        last_error: the exception that the last drawing ended in, or None. It is shown in the widget too.

    Raises:
        ValueError: unless there are as many pieces as tokens.
    """

    def __init__(self, trace: Trace, pieces: Sequence[str]) -> None:
        if len(pieces) != len(trace.input_ids):
            raise ValueError(f"pieces must be one for each token, {len(trace.input_ids)}; got {len(pieces)}")
        self._trace, self._pieces = trace, list(pieces)
        self._locked: int | None = None
        self.last_error: Exception | None = None
        last = len(pieces) - 1
        self._strip = TokenStrip(
            self._pieces, [0.0] * len(pieces), label="relative attention", scale="signed", selected=last
        )
        heads = trace.layers[0].dt.shape[1]
        self.controls: dict[str, Widget] = {
            "token": self._strip,
            "layer": _picker("layer", len(trace.layers)),
            "head": _picker("head", heads),
            "lock": ToggleButton(description="Lock this token", icon="lock", layout=Layout(width="auto")),
        }
        self._fault, self._facts = HTML(), HTML()
        self._film, self._rows, self._strengths = Panel(), Panel(), Panel()
        pickers = Box([self.controls[name] for name in ("layer", "head", "lock")], layout=Layout(flex_flow="row wrap"))
        shown = [self._facts, self._film, self._rows, self._strengths]
        super().__init__([pickers, self._strip, self._fault, *shown])
        self._strip.observe(self._changed, "selected")
        self.controls["layer"].observe(self._changed, "value")
        self.controls["head"].observe(self._changed, "value")
        self.controls["lock"].observe(self._lock, "value")
        self.render()

    @undisturbed()
    def render(self) -> None:
        """Draw what is not up to date. An exception takes the figures' place and is kept in `last_error`."""
        try:
            self._draw()
        except Exception as error:
            self.last_error = error
            self._fault.value = error_html(error)
            self._clear()
        else:
            self.last_error = None
            self._fault.value = ""

    def _draw(self) -> None:
        if self._strip.selected is None:
            self._clear()
            return
        pieces = self._pieces
        locked = None if self._locked == self._strip.selected else self._locked
        place = Place(self.controls["layer"].value, self.controls["head"].value, self._strip.selected, locked)
        layer = self._trace.layers[place.layer]
        self._strip.colour(relative(layer.attention(place.head, [place.token])[0].tolist()))
        self._facts.value = facts(layer, pieces, place)
        self._film.show(place, lambda: film(layer, pieces, place))
        self._rows.show(place, lambda: rows(layer, pieces, place))
        self._strengths.show(place[:2], lambda: strengths(layer, pieces, place), marks(place, len(pieces)))

    def _clear(self) -> None:
        self._facts.value = ""
        self._strip.colour([0.0] * len(self._pieces))
        for panel in (self._film, self._rows, self._strengths):
            panel.clear()

    def _changed(self, _change: object) -> None:
        self.render()

    def _lock(self, _change: object) -> None:
        button = self.controls["lock"]
        self._locked = self._strip.selected if button.value else None
        button.description = "Lock this token" if self._locked is None else f"Token {self._locked} is locked"
        self.render()


class Panel(HTML):
    """A figure that is drawn anew only where what it is drawn from has changed."""

    def __init__(self) -> None:
        super().__init__()
        self._figure, self._key = "", NOTHING

    def show(self, key: Hashable, draw: Callable[[], str], over: str = "") -> None:
        """Show the figure as HTML that belongs to the key, and `over` on top of it."""
        if key != self._key:
            self._figure, self._key = draw(), key
        frame = "position: relative; display: inline-block; max-width: 100%"
        self.value = f'<div style="{frame}">{self._figure}{over}</div>'

    def clear(self) -> None:
        """Show nothing."""
        self._figure, self._key, self.value = "", NOTHING, ""


def frames(token: int) -> list[int]:
    """The tokens whose states are shown for this one: itself, and those 1, 4, 16, ... tokens before, oldest first."""
    back = [0] + [STEP**i for i in range(FRAMES - 1)]
    return [token - distance for distance in reversed(back) if distance <= token]


def film(layer: LayerTrace, pieces: Sequence[str], place: Place) -> str:
    """How the state came to be what it is after the token; and, at the end, the locked token's."""
    tokens = frames(place.token)
    if place.locked is not None:
        tokens = [*tokens[-(FRAMES - 1) :], place.locked]
    states = layer.states(place.head, tokens)
    names = [f"{token} {quoted(pieces[token])}" for token in tokens]
    if place.locked is not None:
        names[-1] = f"locked: {names[-1]}"
    alt = f"The state of head {place.head} as a heatmap after each of these tokens, on one scale: {'; '.join(names)}."
    return _live(plots.film_strip(dict(zip(names, states, strict=True))), alt)


def rows(layer: LayerTrace, pieces: Sequence[str], place: Place) -> str:
    """The row of hidden attention of the token, and of the locked one."""
    targets = [place.token] if place.locked is None else [place.token, place.locked]
    attention = layer.attention(place.head, targets)
    said = []
    for target, row in zip(targets, attention, strict=True):
        source = int(row.abs().argmax())
        said.append(
            f"token {target}, {quoted(pieces[target])}, reads most of token {source}, {quoted(pieces[source])}, "
            f"with weight {row[source]:.3g}"
        )
    alt = f"Bars: with which weight the x of each token enters the output of head {place.head}; {'; '.join(said)}."
    return _live(plots.attention_rows(pieces, dict(zip(targets, attention, strict=True))), alt)


def strengths(layer: LayerTrace, pieces: Sequence[str], place: Place) -> str:
    """What the head did at each token."""
    columns = [table[:, place.head] for table in (layer.dt, layer.decay, layer.written, layer.y.norm(dim=-1))]
    ends = ", ".join(
        f"{name} {column.min():.3g} to {column.max():.3g}"
        for name, column in zip(("dt", "decay", "written", "read"), columns, strict=True)
    )
    alt = f"Bars for each of {len(pieces)} tokens, of layer {place.layer}, head {place.head}: {ends}."
    return _live(plots.strengths(pieces, *columns), alt)


def marks(place: Place, l: int) -> str:
    """Lines through the charts over the tokens, at the selected token and at the locked one."""
    lines = [(place.token, f"2px solid {INK}")]
    if place.locked is not None:
        lines.append((place.locked, f"2px dashed {PALE_INK}"))
    # From the top of the first chart to the foot of the last one.
    place_of = "position: absolute; top: 7%; bottom: 16.5%; margin-left: -1px; pointer-events: none"
    place_of += "; box-shadow: 0 0 0 1px #ffffffa0"  # to be seen before bars
    return "".join(
        f'<i style="{place_of}; left: {100 * across(token, l):.3f}%; border-left: {line}"></i>' for token, line in lines
    )


def facts(layer: LayerTrace, pieces: Sequence[str], place: Place) -> str:
    """The numbers of the token and of the locked one, and the head's half-lives, as HTML."""
    head = place.head
    rest, here = layer.half_life_at_rest[head].item(), layer.half_life[head].item()
    tokens = [place.token] if place.locked is None else [place.token, place.locked]
    titles = [f"token {token}, {quoted(pieces[token])}" for token in tokens]
    if place.locked is not None:
        titles[1] = f"locked: {titles[1]}"
    half_lives = [layer.half_lives[token, head].item() for token in tokens]
    quantities = {
        "step size dt": [f"{layer.dt[token, head]:.3g}" for token in tokens],
        "decay exp(dt A)": [f"{layer.decay[token, head]:.3g}" for token in tokens],
        "written |dt x Bᵀ|": [f"{layer.written[token, head]:.3g}" for token in tokens],
        "read |h C|": [f"{layer.y[token, head].norm():.3g}" for token in tokens],
        "half of what it wrote is gone after": [in_tokens(value, "this text's end") for value in half_lives],
    }
    cells = [("", titles), *quantities.items()]
    table = "".join(
        f'<tr><td style="padding-right: 14px">{name}</td>'
        + "".join(f'<td style="padding-right: 22px">{html.escape(value)}</td>' for value in values)
        + "</tr>"
        for name, values in cells
    )
    return (
        f'<div style="line-height: 1.4">Half-life of layer {place.layer}, head {head}: <b>{in_tokens(here)}</b> on '
        f"this text, <b>{in_tokens(rest)}</b> at rest.<table>{table}</table></div>"
    )


def relative(row: Sequence[float]) -> list[float]:
    """Each weight as a part of the largest, with its sign."""
    most = max(map(abs, row)) or 1.0
    return [weight / most for weight in row]


def in_tokens(value: float, end: str = "") -> str:
    """A number of tokens in words; infinity is beyond the end, where there is one."""
    if math.isinf(value):
        return end or "infinite"
    return f"{value:,.1f} tokens" if value < 1000 else f"{value:,.0f} tokens"


def _live(figure: Figure, alt: str) -> str:
    return as_html(figure, alt, caption="", live=True)


def _picker(name: str, count: int) -> BoundedIntText:
    text = f"{name} (0 to {count - 1})"
    whole = {"description_width": "initial"}  # or the end of the text would be cut off
    return BoundedIntText(0, min=0, max=count - 1, description=text, style=whole, layout=Layout(width="190px"))
