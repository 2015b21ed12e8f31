"""A column of the playground: the settings of a sampler, the text written with them, and why a token was chosen."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from ipywidgets import HTML, Box, Layout, VBox

from mamba2_lab import plots
from mamba2_lab.checks import require, require_whole
from mamba2_lab.generation import GeneratedToken, SamplingConfig
from mamba2_lab.plots.style import as_html
from mamba2_lab.widgets.playground.controls import sampler_controls
from mamba2_lab.widgets.playground.labels import FIELDS
from mamba2_lab.widgets.playground.reasons import in_words
from mamba2_lab.widgets.playground.writing import Pace, Writing
from mamba2_lab.widgets.token_strip import TokenStrip
from mamba2_lab.words import counted


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
        self.controls = sampler_controls(start)
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
            TypeError, ValueError: as `checks` says it, for a field that holds what it cannot.
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


def small(text: str) -> str:
    """A line of facts, quieter than the text that it belongs to."""
    return f'<div style="font-size: 12px; opacity: 0.85; line-height: 1.4">{html.escape(text)}</div>'
