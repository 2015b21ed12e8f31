"""What stands in fields outlives a reload of the page, which gives it a kernel that knows nothing of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import anywidget
import traitlets
from ipywidgets import Widget, widget_serialization


class KeptFields(anywidget.AnyWidget):
    """Keeps fields in the storage of the browser's tab, where nothing but this page can read them; it shows nothing.

    Args:
        controls: the fields by name; those without a `value`, such as buttons, are left alone.
    """

    _esm = Path(__file__).with_name("kept_fields.js")

    fields = traitlets.Dict().tag(sync=True, **widget_serialization)

    def __init__(self, controls: Mapping[str, Widget]) -> None:
        fields = {name: control for name, control in controls.items() if control.has_trait("value")}
        super().__init__(fields=fields)
