"""The fading explorer draws for its sliders, from end to end."""

import pytest
from support.views import alt, picture

from mamba2_lab import plots, widgets


def test_the_fading_explorer_draws_for_its_sliders(monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "fading", lambda dt, A: drawn.append((dt, A)) or FADING(dt, A))
    view = widgets.FadingExplorer()
    view.controls["A"].value = -4.0
    view.controls["dt"].value = 0.01
    assert drawn == [(0.1, -1.0), (0.1, -4.0), (0.01, -4.0)]
    assert "0.449 after 20 steps" in alt(view)  # exp(-0.8)
    assert view.last_error is None


FADING = plots.fading


def test_the_fading_explorer_shows_another_picture_for_another_value():
    view = widgets.FadingExplorer()
    before = picture(view)
    view.controls["dt"].value = 0.2
    assert (picture(view) != before).any()


@pytest.mark.parametrize("dt", [0.001, 1.0])
@pytest.mark.parametrize("A", [-16.0, -0.5])
def test_the_fading_explorer_draws_at_every_end_of_its_sliders(dt, A):
    view = widgets.FadingExplorer()
    view.controls["dt"].value, view.controls["A"].value = dt, A
    assert view.last_error is None
    assert (view.controls["dt"].value, view.controls["A"].value) == (dt, A)
