"""What a reader moves and presses: explorers, whose figures follow their controls, and the playground.

`view` holds what the explorers share; each is a thin shell around a pure function of `plots`. `token_strip` shows a
text token by token, `worker` runs what takes long, `fields` says how fields look: explorers and playground are made of
them.
"""

from mamba2_lab.widgets.explorers.chunks import ChunkStepper
from mamba2_lab.widgets.explorers.debugger import StateDebugger
from mamba2_lab.widgets.explorers.fading import FadingExplorer
from mamba2_lab.widgets.explorers.selectivity import DtPainter
from mamba2_lab.widgets.explorers.three_computations import StepScrubber
from mamba2_lab.widgets.explorers.timing import SweepRunner
from mamba2_lab.widgets.playground.page import Playground
from mamba2_lab.widgets.token_strip import TokenStrip

__all__ = [
    "ChunkStepper",
    "DtPainter",
    "FadingExplorer",
    "Playground",
    "StateDebugger",
    "StepScrubber",
    "SweepRunner",
    "TokenStrip",
]
