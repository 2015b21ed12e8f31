"""A column of the playground: the settings of a sampler, the text written with them, and why a token was chosen."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import traitlets
from ipywidgets import HTML, Box, FloatSlider, FloatText, Layout, VBox, Widget

from mamba2_lab import plots
from mamba2_lab.checks import require, require_whole
from mamba2_lab.generation import GeneratedToken, SamplingConfig
from mamba2_lab.plots.style import as_html
from mamba2_lab.widgets.playground.writing import Pace, Writing, in_words
from mamba2_lab.widgets.token_strip import TokenStrip
from mamba2_lab.widgets.words import FIELDS, counted

FIELD = Layout(width="330px", max_width="98%", margin="1px 6px 1px 0")
WIDE_LABEL = {"description_width": "118px"}


class WholeNumber(FloatText):
    """A field for a whole number that also takes another one, for it to be refused in words: an IntText cuts it off."""

    value = traitlets.Union([traitlets.Int(), traitlets.Float()], default_value=0).tag(sync=True)


class Column:
    """Settings, text and reasons; what the playground has two of.

    Attributes:
        title: which of two it is, "" where there is one.
        controls: one for each field of `SamplingConfig`, under the field's name.
        writing: the text as it stands, or None.
        last_entry: the number of its last run in the history.
    """

    def __init__(self, start: SamplingConfig) -> None:
        self.title = ""
        self.controls = _controls(start)
        self.strip = TokenStrip(label="probability", scale="chance")
        self.writing: Writing | None = None
        self.last_entry: int | None = None
        self._meter, self.why = HTML(), HTML()
        self._heading = HTML(layout=Layout(width="100%"))
        # Two columns stand side by side where there is room for two fields, and else one below the other.
        half = {"flex": "1 1 345px", "min_width": "0", "align_self": "flex-start"}
        self.settings_box = Box(
            [self._heading, *self.controls.values()], layout=Layout(flex_flow="row wrap", align_items="center", **half)
        )
        self.text_box = VBox([self.strip, self._meter], layout=Layout(padding="0 5px 0 0", **half))

    def lay_out(self, title: str, *, shown: bool) -> None:
        """Its title, and whether it is there."""
        self.title = title
        self._heading.value = f"<b>{title.capitalize() or 'Settings'}</b>"
        for box in (self.settings_box, self.text_box):
            box.layout.display = None if shown else "none"

    def settings(self) -> SamplingConfig:
        """What the controls say. At 0, top-k is switched off, and so is min-p; top-p is at 1.

        Raises:
            TypeError, ValueError: naming the field, what was expected and what came.
        """
        values: dict[str, Any] = {name: control.value for name, control in self.controls.items()}
        require_whole("top_k", values["top_k"])
        require(values["top_k"] >= 0, "top_k", "0, to keep all, or more", values["top_k"])
        for name, off in (("top_k", 0), ("top_p", 1), ("min_p", 0)):
            values[name] = None if values[name] == off else values[name]
        return SamplingConfig(**values)

    def forget(self) -> None:
        """No text."""
        self.writing = self.last_entry = None
        self.strip.write([], [], lead="")
        self._meter.value = ""

    def begin(self, writing: Writing) -> None:
        """Show a text that has just begun."""
        self.writing = writing
        self.strip.write([], [], lead=writing.prompt)

    def append(self, tokens: Sequence[GeneratedToken], pace: Pace) -> None:
        """Show more of it."""
        if tokens:
            pace.add(len(tokens))
            self.strip.append([token.text for token in tokens], [math.exp(token.logprob) for token in tokens])

    def measure(self, pace: Pace) -> None:
        """Show how fast it goes, and what is kept of how much."""
        assert self.writing is not None
        facts = [counted(len(self.writing.tokens), "new token"), str(pace), f"{self.writing.state}"]
        self._meter.value = small(". ".join(fact for fact in facts if fact) + ".")

    def explain(self) -> None:
        """Show the candidates for the selected token, before and after each filter."""
        index = self.strip.selected
        if index is None or self.writing is None:
            self.why.value = ""
            return
        explanation = self.writing.explanation(index)
        names = [self.writing.name(token) for token in explanation.candidates]
        first, *others = in_words(explanation, names)
        panels = {
            f"{FIELDS[name]}\n{left:,} left": row
            for name, left, row in zip(explanation.stages, explanation.left, explanation.probabilities, strict=True)
        }
        chosen = explanation.candidates.index(explanation.token)
        figure = plots.candidates(names, panels, chosen)
        alt = f"Bars: the probabilities of {', '.join(names)} by the model and after each filter. {' '.join(others)}"
        heading = f"{self.title}{', ' if self.title else ''}token {index}".capitalize()
        items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in others)
        self.why.value = (
            f'<div style="line-height: 1.45"><b>{heading}.</b> {html.escape(first)}'
            f'<ul style="margin: 2px 0 6px">{items}</ul></div>{as_html(figure, alt, caption="", live=True)}'
        )


def _controls(start: SamplingConfig) -> dict[str, Widget]:
    def slider(name: str, value: float, low: float, high: float, step: float, tip: str) -> FloatSlider:
        return FloatSlider(
            value,
            min=low,
            max=high,
            step=step,
            description=FIELDS[name],
            tooltip=tip,
            style=WIDE_LABEL,
            layout=FIELD,
        )

    return {
        "temperature": slider("temperature", start.temperature, 0, 2, 0.05, "0 takes the likeliest token every time"),
        "top_k": WholeNumber(
            start.top_k or 0,
            step=1,
            description=FIELDS["top_k"],
            tooltip="keep so many of the likeliest tokens; 0 keeps all",
            style=WIDE_LABEL,
            layout=FIELD,
        ),
        "top_p": slider(
            "top_p", start.top_p or 1, 0.01, 1, 0.01, "keep the likeliest tokens that reach p; 1 keeps all"
        ),
        "min_p": slider(
            "min_p", start.min_p or 0, 0, 1, 0.01, "keep tokens at least so many times as likely as the likeliest"
        ),
        "repetition_penalty": slider(
            "repetition_penalty",
            start.repetition_penalty,
            0.5,
            2,
            0.05,
            "above 1, tokens that were seen are less likely",
        ),
    }


def small(text: str) -> str:
    """A line of facts, quieter than the text that it belongs to."""
    return f'<div style="font-size: 12px; opacity: 0.85; line-height: 1.4">{html.escape(text)}</div>'
