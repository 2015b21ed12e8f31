"""Explorers draw anew when a control moves, and show an error instead of hiding it."""

import base64
import gc
import io
import re
import weakref
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from ipywidgets import IntSlider
from matplotlib.figure import Figure
from PIL import Image

from mamba2_lab import plots, widgets
from mamba2_lab.widgets.view import View, undisturbed


def shown(view: View) -> str:
    """The HTML below the controls."""
    return view.children[1].value


def picture(view: View) -> np.ndarray:
    """The pixels that it shows."""
    (data,) = re.findall(r"base64,([\w+/=]+)", shown(view))
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def alt(view: View) -> str:
    class Alt(HTMLParser):
        found = ""

        def handle_starttag(self, tag, attrs):
            if tag == "img":
                self.found = dict(attrs)["alt"]

    parser = Alt()
    parser.feed(shown(view))
    return parser.found


class Fragile(View):
    """Draws a dot at `height`, and cannot draw above 5."""

    def __init__(self) -> None:
        super().__init__(height=IntSlider(1, min=0, max=10))

    def draw(self, height):
        if height > 5:
            raise ValueError(f"height must be at most 5, <not> {height}")
        figure = Figure()
        figure.add_subplot(ylim=(0, 10)).plot([0], [height], "o")
        return figure

    def describe(self, height):
        return f"a dot at {height}"


def test_a_view_draws_at_once_and_anew_when_a_control_moves():
    view = Fragile()
    assert alt(view) == "a dot at 1"
    before = picture(view)
    view.controls["height"].value = 3
    assert alt(view) == "a dot at 3"
    assert (picture(view) != before).any()
    assert view.last_error is None


def test_an_exception_takes_the_place_of_the_figure_and_is_kept():
    view = Fragile()
    view.controls["height"].value = 6
    assert isinstance(view.last_error, ValueError)
    assert "ValueError: height must be at most 5, &lt;not&gt; 6" in shown(view)
    assert "<img" not in shown(view), "a figure for other values must not stay"
    view.controls["height"].value = 2
    assert view.last_error is None
    assert alt(view) == "a dot at 2"


def test_an_exception_in_the_description_is_not_swallowed_either(monkeypatch):
    view = Fragile()
    monkeypatch.setattr(Fragile, "describe", lambda self, height: {}[height])
    view.render()
    assert isinstance(view.last_error, KeyError)
    assert "KeyError" in shown(view)


def test_a_view_says_what_a_subclass_has_forgotten():
    view = View(height=IntSlider(1))
    assert isinstance(view.last_error, NotImplementedError)


@pytest.fixture
def collections():
    """The generation of each collection of garbage, as they come."""
    seen = []

    def note(phase, info):
        if phase == "start":
            seen.append(info["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


class Wasteful(View):
    """Makes more cycles than three generations of the collector put up with, then draws, if it can."""

    def __init__(self) -> None:
        self.drawn = []
        super().__init__(height=IntSlider(1, min=0, max=10))

    def draw(self, height):
        for _ in range(gc.get_threshold()[0] * 300):
            cycle: list = []
            cycle.append(cycle)
        if height > 5:
            raise ValueError("too high")
        figure = Figure(figsize=(1, 1))
        self.drawn.append(weakref.ref(figure))
        return figure

    def describe(self, height):
        return "nothing"


@pytest.mark.parametrize("height", [2, 9])
def test_a_move_is_not_held_up_by_garbage_and_leaves_none(collections, height):
    """Looking through all objects that there are takes longer than a move may."""
    view = Wasteful()
    collections.clear()
    view.controls["height"].value = height
    assert collections == [0], "one of what is young, at the end"
    assert gc.isenabled(), "after an exception too"
    assert (view.last_error is None) == (height == 2)
    assert [figure() for figure in view.drawn] == [None] * len(view.drawn), "no figure waits for a later collection"


def test_a_collector_that_was_off_stays_off_and_garbage_is_collected_all_the_same(collections):
    gc.disable()
    try:
        Fragile()
        assert not gc.isenabled()
        assert collections == [0]
    finally:
        gc.enable()


def test_collections_go_on_after_an_exception_that_nobody_caught():
    with pytest.raises(KeyError), undisturbed():
        raise KeyError("b")
    assert gc.isenabled()


@pytest.fixture
def system():
    """Two barrels over three hours, worked out by hand: what they hold, and what is read."""
    x, C = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([1.0, -1.0])
    states = torch.tensor([[1.0, 1.0], [0.5, 0.25], [2.25, 2.0625]])
    weights = torch.tensor([0.0, 0.25, 0.1875])
    matrix = torch.tensor([[0.0, 0.0, 0.0], [0.25, 0.0, 0.0], [0.1875, 0.25, 0.0]])
    return x, states, C, weights, matrix


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
