"""Explorers: a figure that answers when a reader moves a control.

`view` holds what they share; the other modules hold the explorers, each a thin shell around a pure function of `plots`.
"""

from mamba2_lab.widgets.chunks import ChunkStepper
from mamba2_lab.widgets.fading import FadingExplorer
from mamba2_lab.widgets.selectivity import DtPainter
from mamba2_lab.widgets.three_computations import StepScrubber

__all__ = ["ChunkStepper", "DtPainter", "FadingExplorer", "StepScrubber"]
