"""The scrubber goes to the step of its slider."""

import pytest
import torch
from support.views import alt, picture, shown

from mamba2_lab import widgets


@pytest.fixture
def system():
    """Two barrels over three hours, worked out by hand: what they hold, and what is read."""
    x, C = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([1.0, -1.0])
    states = torch.tensor([[1.0, 1.0], [0.5, 0.25], [2.25, 2.0625]])
    weights = torch.tensor([0.0, 0.25, 0.1875])
    matrix = torch.tensor([[0.0, 0.0, 0.0], [0.25, 0.0, 0.0], [0.1875, 0.25, 0.0]])
    return x, states, C, weights, matrix


def test_the_scrubber_goes_to_the_step_of_its_slider(system):
    view = widgets.StepScrubber(*system)
    assert (view.controls["t"].min, view.controls["t"].max) == (0, 2)
    assert alt(view).startswith("Hour 0") and alt(view).count("0.00") == 3
    before = picture(view)
    view.controls["t"].value = 2
    assert view.last_error is None
    assert alt(view).startswith("Hour 2") and alt(view).count("0.19") == 3
    assert (picture(view) != before).any()


def test_the_scrubber_shows_an_error_in_what_it_was_given(system):
    x, states, C, weights, _ = system
    view = widgets.StepScrubber(x, states, C, weights, torch.zeros(2, 2))
    assert view.last_error is not None
    assert type(view.last_error).__name__ in shown(view)
