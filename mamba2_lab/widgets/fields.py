"""How the fields of the widgets look, and one that takes whole numbers."""

from __future__ import annotations

import traitlets
from ipywidgets import Box, FloatText, Layout, Widget

FIELD = Layout(width="330px", max_width="98%", margin="1px 6px 1px 0")
WIDE_LABEL = {"description_width": "118px"}


class WholeNumber(FloatText):
    """A field for a whole number that also takes another one, for it to be refused in words: an IntText cuts it off."""

    value = traitlets.Union([traitlets.Int(), traitlets.Float()], default_value=0).tag(sync=True)


def row(*widgets: Widget) -> Box:
    """Widgets side by side, and where there is no room, below one another."""
    return Box(widgets, layout=Layout(flex_flow="row wrap", align_items="center"))
