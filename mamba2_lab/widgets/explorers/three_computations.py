"""The explorer of notebook 02: one output of a fixed system, computed in three ways, step by step."""

from __future__ import annotations

from ipywidgets import IntSlider, Layout
from matplotlib.figure import Figure
from torch import Tensor

from mamba2_lab import plots
from mamba2_lab.widgets.view import View


class StepScrubber(View):
    """A slider for the step over the figure `plots.three_computations`, whose other arguments are given here."""

    def __init__(self, x: Tensor, states: Tensor, C: Tensor, weights: Tensor, matrix: Tensor) -> None:
        self.system = (x, states, C, weights, matrix)
        super().__init__(t=IntSlider(0, min=0, max=len(x) - 1, description="hour t", layout=Layout(width="420px")))

    def draw(self, t: int) -> Figure:  # type: ignore[override]
        return plots.three_computations(t, *self.system)

    def describe(self, t: int) -> str:  # type: ignore[override]
        x, states, C, weights, matrix = self.system
        return (
            f"Hour {t}, three ways. The loop reads {C @ states[t]:.2f} from the levels of its barrels; the kernel laid "
            f"backwards over the rain sums to {weights[: t + 1] @ x[: t + 1].flip(0):.2f}; row {t} of the matrix times "
            f"the rain is {matrix[t] @ x:.2f}."
        )
