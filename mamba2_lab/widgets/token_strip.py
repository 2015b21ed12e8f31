"""A text as a row of tokens, each coloured by a value; one can point at them, click, and walk along by keyboard."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from matplotlib.colors import to_rgb

from mamba2_lab.plots.style import COLOURS
from mamba2_lab.words import counted

HERE = Path(__file__).parent
BLUE, ORANGE, PURPLE = COLOURS[0], COLOURS[5], "#5e3c99"  # purple and orange are the ends of the course's signed maps
STRONGEST = 0.6  # opacity; text on it has a contrast of 4.5 at least, in light themes and in dark ones
SHADES = 21  # an odd number, so that zero has a shade of its own on a signed scale
# For each scale, where it begins, and the colour and opacity of its two ends; between them, clear or fading.
SCALES = {
    "amount": (0.0, (BLUE, 0.0), (BLUE, STRONGEST)),  # the more, the stronger
    "chance": (0.0, (ORANGE, STRONGEST), (ORANGE, 0.0)),  # the less likely, the stronger: a sure token is plain text
    "signed": (-1.0, (PURPLE, STRONGEST), (ORANGE, STRONGEST)),  # clear at zero
}
STILL = 600  # tokens in the picture for viewers without a kernel


class TokenStrip(anywidget.AnyWidget):
    """Tokens as chips in running text. Put last in a cell, it is shown; a TokenStrip can stand inside other widgets.

    Args:
        tokens: the text of each, blanks and line breaks kept; a line break is marked, and breaks the line.
        values: one number for each token. What lies outside the scale gets the colour of its nearest end, NaN none.
        label: what a value is, "probability" for one; read out to those who cannot see colours, and shown on hover.
        lead: a text that stands before the first token, such as a prompt; it has no colours and cannot be chosen.
        scale: "amount", 0 to 1, the more the stronger in colour; "chance", 0 to 1, the less the stronger; "signed", -1
            to 1, clear at zero. It stays what it was at first, as the label does.
        selected: the chosen token, 0 the first, or None. A click and the arrow keys set it, and so does Python.

    Raises:
        ValueError: unless there are as many values as tokens, and for an unknown scale.

    Colours are half transparent, so text stands out from them in light themes and in dark ones.
    """

    _esm = HERE / "token_strip.js"
    _css = HERE / "token_strip.css"

    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    values: Any = traitlets.List().tag(sync=True)  # floats, None for NaN, which JSON does not have
    label = traitlets.Unicode("value").tag(sync=True)
    lead = traitlets.Unicode("").tag(sync=True)
    low = traitlets.Float(read_only=True).tag(sync=True)
    shades = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    edition = traitlets.Int(0).tag(sync=True)  # counts what was written anew: the page draws everything again then
    selected = traitlets.Int(None, allow_none=True).tag(sync=True)

    def __init__(
        self,
        tokens: Sequence[str] = (),
        values: Sequence[float] = (),
        *,
        label: str = "value",
        lead: str = "",
        scale: str = "amount",
        selected: int | None = None,
    ) -> None:
        self._new: tuple[list[str], list[float | None]] = ([], [])  # appended since the traits were written
        if scale not in SCALES:
            raise ValueError(f"scale must be one of {', '.join(SCALES)}; got {scale!r}")
        self.set_trait("low", SCALES[scale][0])
        self.set_trait("shades", shades(scale))
        super().__init__(label=label, lead=lead)
        self.on_msg(self._answer)
        self.write(tokens, values)
        self.selected = selected

    def write(self, tokens: Sequence[str], values: Sequence[float], *, lead: str | None = None) -> None:
        """Show these tokens and no others. Nothing is selected then."""
        _check_lengths(tokens, values)
        self._new = ([], [])
        with self.hold_sync():  # one message, or the page would draw tokens with the values of others
            self.selected = None
            self.lead = self.lead if lead is None else lead
            self.tokens, self.values = list(tokens), list(map(_for_json, values))
            self.edition += 1

    def append(self, tokens: Sequence[str], values: Sequence[float]) -> None:
        """Show more tokens behind the others. Only these are sent, so give many at once; end with `settle`."""
        _check_lengths(tokens, values)
        at, told = len(self), list(map(_for_json, values))
        self._new[1].extend(told)
        self._new[0].extend(tokens)
        self.send({"kind": "append", "at": at, "tokens": list(tokens), "values": told})

    def colour(self, values: Sequence[float]) -> None:
        """Give the tokens other values. They stay in place, with what is selected, focused or scrolled to."""
        _check_lengths(self, values)
        with self.hold_sync():  # one message
            self.settle()
            self.values = list(map(_for_json, values))

    def settle(self) -> None:
        """Write all that was appended into the traits: a page that is opened from now on shows it too."""
        tokens, values = self._new
        self._new = ([], [])
        with self.hold_sync():
            self.tokens, self.values = self.tokens + tokens, self.values + values

    def _answer(self, _: object, asked: dict[str, Any], buffers: object) -> None:
        """A page that was opened in the middle of a stream asks for what it has missed, from token `at` on."""
        at = asked["at"]
        start = max(0, at - len(self.tokens))
        tokens = self._new[0][start:]
        self.send({"kind": "append", "at": at, "tokens": tokens, "values": self._new[1][start : start + len(tokens)]})

    def __len__(self) -> int:
        return len(self.tokens) + len(self._new[0])

    @property
    def text(self) -> str:
        """All tokens, without the lead."""
        return "".join(self.tokens + self._new[0])

    @traitlets.validate("selected")
    def _check_selected(self, proposal: Any) -> int | None:
        wanted = proposal.value
        if wanted is not None and not 0 <= wanted < len(self):
            raise traitlets.TraitError(f"selected must lie in 0..{len(self) - 1}, or be None; got {wanted}")
        return wanted

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The view, and for viewers without a kernel its text, and its text in colours."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is not None:
            bundle[0].update({"text/plain": self.lead + self.text, "text/html": self.still()})
        return bundle

    def still(self) -> str:
        """The first tokens as HTML that needs no script: a picture for viewers without a kernel."""
        tokens, values = self.tokens + self._new[0], self.values + self._new[1]
        chips = "".join(map(self._still_chip, tokens[:STILL], values))
        rest = f" ({counted(len(tokens) - STILL, 'more token')})" if len(tokens) > STILL else ""
        return f'<div style="white-space: pre-wrap; font-family: monospace">{html.escape(self.lead)}{chips}{rest}</div>'

    def _still_chip(self, token: str, value: float | None) -> str:
        colour = "" if value is None else f"background: {self.shades[shade(value, self.low)]}"
        return f'<span style="{colour}">{html.escape(token)}</span>'


def shades(scale: str) -> list[str]:
    """CSS colours for the values of a scale, from its low end to its high one.

    They are laid over the page's own background, and its text has to stay legible: hence they are half transparent.
    """
    _, low, high = SCALES[scale]
    shades = []
    for i in range(SHADES):
        at = i / (SHADES - 1)
        if low[0] == high[0]:
            colour, opacity = low[0], low[1] + (high[1] - low[1]) * at
        else:
            colour, opacity = (low if at < 0.5 else high)[0], STRONGEST * abs(2 * at - 1)
        red, green, blue = (round(255 * part) for part in to_rgb(colour))
        shades.append(f"rgba({red}, {green}, {blue}, {opacity:.2f})")
    return shades


def shade(value: float, low: float) -> int:
    """Which of the shades a value has on a scale from low to 1; the page does the same in token_strip.js."""
    return math.floor(max(0.0, min(1.0, (value - low) / (1 - low))) * (SHADES - 1) + 0.5)


def _for_json(value: float) -> float | None:
    """Four digits, for the message to be short; None where there is no number."""
    return None if math.isnan(value) else float(f"{value:.4g}")


def _check_lengths(tokens: Sized, values: Sequence[float]) -> None:
    if len(tokens) != len(values):
        raise ValueError(f"values must be as many as tokens, {len(tokens)}; got {len(values)}")
