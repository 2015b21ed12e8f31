"""What is on each figure of the notebooks, for those who cannot see it, and what to see in it: a module a chapter.

They stand here and not in the notebooks, where a reader who has yet to predict a figure would find its outcome.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil


def description(figure: str, which: str = "") -> tuple[str, str]:
    """The text in place of a figure, and its caption.

    Args:
        figure: the name of the function that draws it. which: the name of the place, of a figure that is drawn in
            several.

    Raises:
        ValueError: if there is none.
    """
    key = f"{figure}: {which}" if which else figure
    if key not in _all():
        near = ", ".join(name for name in _all() if name.split(":")[0] == figure) or "none; give alt and caption"
        raise ValueError(f"a figure must be one of those described, {near}; got {key!r}")
    return _all()[key]


@functools.cache
def _all() -> dict[str, tuple[str, str]]:
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return {key: texts for module in modules for key, texts in module.DESCRIBED.items()}
