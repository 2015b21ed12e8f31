"""How a widget looks where no kernel runs: its fields with their values, its figures, its text, as plain HTML."""

from __future__ import annotations

import base64
import html
import re
from typing import Any

from ipywidgets import HTML, Accordion, Box, Button, VBox, Widget

from mamba2_lab.plots.style import in_few_colours

PNG = re.compile(r"(data:image/png;base64,)([\w+/=]+)")
NOTE = "An interactive widget when the notebook runs. This is how it looks at first."
ROW = "display: flex; flex-flow: row wrap; align-items: center"
FIELD = "border: 1px solid #8a929b; border-radius: 3px; padding: 1px 6px; margin: 2px 8px 2px 4px"


class Still(VBox):
    """A box that leaves a picture of itself: what a stored notebook shows, and a page that cannot show widgets."""

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is not None:
            bundle["text/html"] = f"<p><em>{NOTE}</em></p>{still(self)}"
        return bundle


def still(widget: Widget) -> str:
    """The picture of a widget and of all that is in it."""
    if getattr(getattr(widget, "layout", None), "display", None) == "none" or isinstance(widget, Accordion):
        return ""  # an accordion is closed at first
    if isinstance(widget, Box):
        inner = "".join(map(still, widget.children))
        return f"<div>{inner}</div>" if isinstance(widget, VBox) else f'<div style="{ROW}">{inner}</div>'
    if isinstance(widget, HTML):
        return PNG.sub(_smaller, widget.value)
    if isinstance(widget, Button):
        return f'<span style="{FIELD}">{html.escape(widget.description)}</span>'
    if hasattr(widget, "value"):
        value = "yes" if widget.value is True else "no" if widget.value is False else str(widget.value)
        label = html.escape(getattr(widget, "description", ""))
        return f'<span style="white-space: pre-wrap">{label}<span style="{FIELD}">{html.escape(value)}</span></span>'
    bundle = widget._repr_mimebundle_()  # one of our own, such as a strip of tokens
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    return (data or {}).get("text/html", "")


def _smaller(found: re.Match[str]) -> str:
    """A figure that was made quickly, in as few bytes as a stored one."""
    return found[1] + base64.b64encode(in_few_colours(base64.b64decode(found[2]))).decode()
