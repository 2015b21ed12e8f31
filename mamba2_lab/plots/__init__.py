"""Figures: data in, a matplotlib Figure out, nothing else.

`style` holds the style sheet and `show`, which puts a figure into a notebook with text for those who cannot see it; the
other modules hold the figures, chapter by chapter.
"""

from mamba2_lab.plots.start_here import course_map, state_changes
from mamba2_lab.plots.style import as_html, show, visible

__all__ = ["as_html", "course_map", "show", "state_changes", "visible"]
