"""The explorer of notebook 03 follows its sliders, one for each word, and shows what goes wrong."""

import math

import numpy as np
import pytest
from matplotlib.image import BboxImage
from support.pages import of_kind
from support.views import shown

from mamba2_lab import plots, widgets

WORDS = ["meet", "at", "noon"]
A = -1.0


@pytest.fixture
def painter():
    return widgets.DtPainter(WORDS, [False, False, True], amount=0.5, A=A)


def state_drawn(view):
    figure = view.draw(**{name: control.value for name, control in view.controls.items()})
    table, _scale = of_kind(figure, BboxImage)
    return np.asarray(table.get_array())


def test_there_is_a_slider_for_each_word_in_the_order_of_the_sentence(painter):
    assert [control.description for control in painter.controls.values()] == WORDS
    assert painter.last_error is None


def test_a_word_that_is_said_twice_has_two_sliders():
    view = widgets.DtPainter(["no", "no"], [True, False], amount=0.5, A=A)
    view.controls["word 1"].value = 0.0
    assert [control.value for control in view.controls.values()] == [0.3, 0.0]
    assert view.last_error is None


def test_the_state_is_that_of_the_recurrence_for_the_values_of_the_sliders(painter):
    settings = [1.0, 0.0, 0.5]
    for control, value in zip(painter.controls.values(), settings, strict=True):
        control.value = value
    state, columns = np.zeros(3), []
    for t, dt in enumerate(settings):
        state = state * math.exp(dt * A)
        state[t] += dt
        columns.append(state)
    np.testing.assert_allclose(state_drawn(painter), np.stack(columns, axis=1))


def test_a_move_changes_the_figure_and_its_text(painter):
    image = shown(painter)
    assert "too little of noon; too much of meet, at" in image
    painter.controls["word 0"].value = painter.controls["word 1"].value = 0.0
    assert "too little of noon." in shown(painter)
    painter.controls["word 2"].value = 0.5
    assert "holds meet 0.00, at 0.00, noon 0.50: the marked words, to within 0.05." in shown(painter)
    assert shown(painter) != image


def test_every_end_of_the_sliders_can_be_drawn(painter):
    for control in painter.controls.values():
        control.value = control.max
    assert painter.last_error is None
    for control in painter.controls.values():
        control.value = control.min
    assert painter.last_error is None


def test_an_error_is_shown_in_place_of_the_figure_and_kept(painter, monkeypatch):
    def fails(*_args):
        raise ValueError("no <paint> left")

    monkeypatch.setattr(plots, "painted_memory", fails)
    painter.controls["word 0"].value = 1.0
    assert isinstance(painter.last_error, ValueError)
    assert "ValueError: no &lt;paint&gt; left" in shown(painter) and "<img" not in shown(painter)
