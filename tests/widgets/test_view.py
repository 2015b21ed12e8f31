"""A view draws anew when a control moves, and shows an error instead of hiding it."""

import gc
import weakref

import pytest
from ipywidgets import IntSlider
from matplotlib.figure import Figure
from support.views import alt, picture, shown

from mamba2_lab.widgets.view import View, undisturbed


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
