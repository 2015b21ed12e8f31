"""The explorer of notebook 01: what is left of an event, for a given step and rate."""

from __future__ import annotations

import math

from ipywidgets import FloatLogSlider, FloatSlider, Layout
from matplotlib.figure import Figure

from mamba2_lab import plots
from mamba2_lab.widgets.view import View


class FadingExplorer(View):
    """Sliders for dt and A over the figure `plots.fading`."""

    def __init__(self, dt: float = 0.1, A: float = -1.0) -> None:
        wide = Layout(width="420px")
        super().__init__(
            dt=FloatLogSlider(
                dt, base=10, min=-3, max=0, step=0.01, description="dt", readout_format=".4f", layout=wide
            ),
            A=FloatSlider(A, min=-16, max=-0.5, step=0.5, description="A", readout_format=".1f", layout=wide),
        )

    def draw(self, dt: float, A: float) -> Figure:  # type: ignore[override]
        return plots.fading(dt, A)

    def describe(self, dt: float, A: float) -> str:  # type: ignore[override]
        left = [f"{math.exp(step * dt * A):.3f}" for step in (1, 20, 21)]
        return (
            f"Bars: the share of a shower that is left with dt = {dt:.4f} and A = {A:.1f}: {left[0]} after one step, "
            f"{left[1]} after 20 steps, {left[2]} after 21."
        )
