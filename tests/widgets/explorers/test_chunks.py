"""The stepper of notebook 05 follows its sliders, and shows what goes wrong."""

import numpy as np
import pytest
import torch
from matplotlib.collections import PolyCollection
from support.pages import assert_texts_are_legible, of_kind, texts
from support.views import shown

from mamba2_lab.widgets.explorers.chunks import ChunkStepper

WORDS = "one two three four five six seven eight".split()


@pytest.fixture
def stepper():
    generator = torch.Generator().manual_seed(0)
    B, C = torch.rand(2, len(WORDS), 2, generator=generator)
    return ChunkStepper(WORDS, -torch.rand(len(WORDS), generator=generator), B, C, ("thing", "event"))


def colours(view):
    values = {name: control.value for name, control in view.controls.items()}
    return of_kind(view.draw(**values), PolyCollection)[0].get_facecolor()


def test_a_step_changes_the_figure_and_its_text(stepper):
    assert stepper.last_error is None
    before, image = colours(stepper), shown(stepper)
    stepper.controls["step"].value = 2
    assert stepper.last_error is None
    assert "step 2, leave behind" in shown(stepper) and shown(stepper) != image
    assert not np.array_equal(colours(stepper), before)


def test_a_chunk_size_changes_the_figure_and_its_text(stepper):
    stepper.controls["step"].value = 4
    stepper.controls["chunk_size"].value = 3
    assert "3 chunks of up to 3 words" in shown(stepper)
    assert [text for text in texts(stepper.draw(4, 3)) if "state after" in text] == [
        f"3: the state after chunk {k}" for k in (1, 2, 3)
    ]
    stepper.controls["chunk_size"].value = 8
    assert "1 chunks" not in shown(stepper) and "1 chunk of up to 8 words" in shown(stepper)


def test_every_position_of_the_sliders_can_be_drawn(stepper):
    sliders = stepper.controls["step"], stepper.controls["chunk_size"]
    for step in range(sliders[0].min, sliders[0].max + 1):
        for chunk_size in (sliders[1].min, sliders[1].max):
            assert "thing" in texts(stepper.draw(step, chunk_size))
            assert_texts_are_legible(stepper.draw(step, chunk_size))  # the strips of every chunk fit on the canvas


def test_an_error_is_shown_in_place_of_the_figure_and_kept(stepper):
    stepper._text = (WORDS, torch.zeros(3), *stepper._text[2:])  # a log decay for three of the words
    stepper.controls["step"].value = 1
    assert isinstance(stepper.last_error, RuntimeError)
    assert 'role="alert"' in shown(stepper) and "<img" not in shown(stepper)
