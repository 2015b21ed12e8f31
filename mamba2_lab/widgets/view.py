"""What every explorer is made of: controls, and a figure that follows them."""

from __future__ import annotations

import gc
import html
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ipywidgets import HTML, Box, Layout, Widget
from matplotlib.figure import Figure

from mamba2_lab.checks import told
from mamba2_lab.plots.style import as_html
from mamba2_lab.widgets.still import Still

ALARM = "#d55e00"  # the vermilion of Okabe and Ito, seen on white and on black


@contextmanager
def undisturbed() -> Iterator[None]:
    """Draw and send without a collection of garbage in between; for a method as a whole, as a decorator.

    A figure is full of cycles, so drawing sets off collections again and again. Each so often one looks through all
    objects that there are: beside torch and matplotlib that takes longer than a reader waits for an answer to a move.
    What was made meanwhile is young, and is collected at the end, once the method has let go of its figures.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
        gc.collect(0)


class View(Still):
    """Controls in a row, and below them a figure drawn from their values. Put last in a cell, it is shown.

    A subclass gives its controls to `__init__` and says in `draw` and `describe` what they lead to; both are pure
    functions of the controls' values, passed by name.

    Attributes:
        controls: the widgets by name; setting `controls[name].value` from Python acts as a reader's hand does.
        last_error: the exception that the last drawing ended in, or None.
    """

    def __init__(self, **controls: Widget) -> None:
        self.controls = controls
        self.last_error: Exception | None = None
        self._shown = HTML()
        row = Box(list(controls.values()), layout=Layout(flex_flow="row wrap"))
        super().__init__([row, self._shown])
        for control in controls.values():
            control.observe(self._changed, "value")
        self.render()

    def draw(self, **values: Any) -> Figure:
        """The figure for these values of the controls."""
        raise NotImplementedError

    def describe(self, **values: Any) -> str:
        """What is on that figure, for those who cannot see it."""
        raise NotImplementedError

    @undisturbed()
    def render(self) -> None:
        """Draw for the controls as they stand. An exception takes the figure's place and is kept in `last_error`.

        Jupyter would hide it in a log otherwise, and leave a figure that belongs to other values.
        """
        values = {name: control.value for name, control in self.controls.items()}
        try:
            figure, alt = self.draw(**values), self.describe(**values)
            shown = as_html(figure, alt, caption="", live=True)
        except Exception as error:
            self.last_error = error
            self._shown.value = error_html(error)
        else:
            self.last_error = None
            self._shown.value = shown

    def _changed(self, _change: object) -> None:
        self.render()


def error_html(error: Exception, called: Mapping[str, str] | None = None) -> str:
    """An exception as a reader sees it in place of the figure.

    Args:
        called: the labels of the fields, by the names of the settings that they set (see `checks.told`).
    """
    text = html.escape(f"{type(error).__name__}: {told(error, called or {})}")
    return f'<p role="alert" style="border-left: 5px solid {ALARM}; padding: 2px 12px">{text}</p>'
