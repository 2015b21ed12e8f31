"""The state debugger: walk along a text, and see what each head has in memory, writes and reads."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from ipywidgets import HTML, BoundedIntText, Box, Layout, ToggleButton, Widget

from mamba2_lab.inspect import Trace
from mamba2_lab.widgets.explorers.looks import Look, Place, look_of, relative
from mamba2_lab.widgets.still import Still
from mamba2_lab.widgets.token_strip import TokenStrip
from mamba2_lab.widgets.view import error_html, undisturbed

NOTHING: Hashable = None  # the key of an empty panel


class StateDebugger(Still):
    """Walk along a traced text: states, step sizes and hidden attention of one head. Put last in a cell, it is shown.

    A layer shows what its kind has: a Mamba-3 head its angles and turns too; attention has rows alone, and says so.

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
        self.controls: dict[str, Widget] = {
            "token": self._strip,
            "layer": _picker("layer", len(trace.layers)),
            "head": _picker(self._look(0).called, trace.layers[0].heads),
            "lock": ToggleButton(description="Lock this token", icon="lock", layout=Layout(width="auto")),
        }
        self._fault, self._facts = HTML(), HTML()
        self._film, self._rows, self._dials, self._charts = Panel(), Panel(), Panel(), Panel()
        pickers = Box([self.controls[name] for name in ("layer", "head", "lock")], layout=Layout(flex_flow="row wrap"))
        shown = [self._facts, self._film, self._rows, self._dials, self._charts]
        super().__init__([pickers, self._strip, self._fault, *shown])
        self._strip.observe(self._changed, "selected")
        self.controls["layer"].observe(self._change_layer, "value")
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
        locked = None if self._locked == self._strip.selected else self._locked
        place = Place(self.controls["layer"].value, self.controls["head"].value, self._strip.selected, locked)
        layer, look = self._trace.layers[place.layer], self._look(place.layer)
        self._strip.colour(relative(layer.attention(place.head, [place.token])[0].tolist()))
        self._facts.value = look.facts(place)
        self._film.show(place, lambda: look.film(place))
        self._rows.show(place, lambda: look.rows(place))
        self._dials.show(place, lambda: look.dials(place))
        self._charts.show(place[:2], lambda: look.charts(place), look.marks(place))

    def _look(self, layer: int) -> Look:
        return look_of(self._trace.layers[layer], self._pieces)

    def _clear(self) -> None:
        self._facts.value = ""
        self._strip.colour([0.0] * len(self._pieces))
        for panel in (self._film, self._rows, self._dials, self._charts):
            panel.clear()

    def _changed(self, _change: object) -> None:
        self.render()

    def _change_layer(self, _change: object) -> None:
        """Layers of several kinds may have other heads, or more of them."""
        layer, head = self.controls["layer"].value, self.controls["head"]
        head.unobserve(self._changed, "value")  # which is set to the last head, if there are fewer
        head.max, head.description = _choice(self._look(layer).called, self._trace.layers[layer].heads)
        head.observe(self._changed, "value")
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
        """Show the figure as HTML that belongs to the key, and `over` on top of it; nothing, if there is no figure."""
        if key != self._key:
            self._figure, self._key = draw(), key
        frame = "position: relative; display: inline-block; max-width: 100%"
        self.value = f'<div style="{frame}">{self._figure}{over}</div>' if self._figure else ""

    def clear(self) -> None:
        """Show nothing."""
        self._figure, self._key, self.value = "", NOTHING, ""


def _picker(name: str, count: int) -> BoundedIntText:
    last, text = _choice(name, count)
    whole = {"description_width": "initial"}  # or the end of the text would be cut off
    return BoundedIntText(0, min=0, max=last, description=text, style=whole, layout=Layout(width="190px"))


def _choice(name: str, count: int) -> tuple[int, str]:
    """The last one of so many, and what stands beside a field for one."""
    return count - 1, f"{name} (0 to {count - 1})"
