"""The state debugger shows what the trace holds, for the token and the head that were chosen."""

import dataclasses
import gc
import html
import re
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from support.oracle.mamba2 import array
from support.small_models import random_ids, small_model

from mamba2_lab import inspect
from mamba2_lab.plots import debugger as plots
from mamba2_lab.plots.debugger import across
from mamba2_lab.plots.style import SHOWN_DPI
from mamba2_lab.widgets.explorers.debugger import StateDebugger
from mamba2_lab.widgets.explorers.looks import frames

L = 23
PIECES = [*"def f(x):\n    return <$>"[:L]]
NAMES = "film_strip", "attention_rows", "strengths"


class Watched(StateDebugger):
    """Keeps what its figures were drawn from, by name, and forgets it when asked for."""

    drawn: dict[str, Any]

    def choose(self, **values: Any) -> dict[str, Any]:
        """Set controls as a hand does: what was drawn anew."""
        self.drawn.clear()
        for name, value in values.items():
            if name == "token":
                self.controls[name].selected = value
            else:
                self.controls[name].value = value
        return dict(self.drawn)

    def text(self) -> str:
        """Everything on it, without tags."""
        parts = [child.value for child in self.children if hasattr(child, "value")]
        return html.unescape(re.sub(r"<[^>]*>", " ", " ".join(parts)))


@pytest.fixture
def trace() -> inspect.Trace:
    return inspect.trace(small_model(ngroups=2), random_ids(L))


@pytest.fixture
def view(trace: inspect.Trace, monkeypatch: pytest.MonkeyPatch) -> Watched:
    drawn: dict[str, Any] = {}

    def keeping(name: str) -> Any:
        draw = getattr(plots, name)

        def call(*given: Any) -> Any:
            drawn[name] = given
            return draw(*given)

        return call

    for name in NAMES:
        monkeypatch.setattr(plots, name, keeping(name))
    view = Watched(trace, PIECES)
    view.drawn = drawn
    return view


def state_by_hand(layer: inspect.LayerTrace, head: int, token: int) -> np.ndarray:
    """The recurrence, token by token, in float64."""
    group = head * layer.B.shape[1] // layer.dt.shape[1]
    x, dt, B, decay = array(layer.x[:, head]), array(layer.dt[:, head]), array(layer.B[:, group]), array(layer.decay)
    state = array(layer.checkpoints[0, head])
    for t in range(token + 1):
        state = decay[t, head] * state + dt[t] * np.outer(x[t], B[t])
    return state


def row_by_hand(layer: inspect.LayerTrace, head: int, token: int) -> np.ndarray:
    group = head * layer.B.shape[1] // layer.dt.shape[1]
    decay, dt, B, C = array(layer.decay), array(layer.dt), array(layer.B[:, group]), array(layer.C[token, group])
    row = np.zeros(len(dt))
    for s in range(token + 1):
        row[s] = decay[s + 1 : token + 1, head].prod() * (C @ B[s]) * dt[s, head]
    return row


def test_it_begins_at_the_last_token_with_every_figure(view: Watched) -> None:
    assert view.last_error is None
    assert view.drawn.keys() == set(NAMES)
    assert view.controls["token"].selected == L - 1
    assert view.controls["token"].text == "".join(PIECES)


def test_the_film_shows_the_states_up_to_the_selected_token(view: Watched, trace: inspect.Trace) -> None:
    (states,) = view.choose(layer=1, head=3, token=17)["film_strip"]
    assert [int(title.split()[0]) for title in states] == [1, 13, 16, 17]
    assert list(states)[0] == "1 'e'"
    for title, state in states.items():
        expected = state_by_hand(trace.layers[1], 3, int(title.split()[0]))
        np.testing.assert_allclose(state, expected, atol=1e-5 * np.abs(expected).max())


def test_frames_lie_further_back_the_older_they_are() -> None:
    assert frames(300) == [44, 236, 284, 296, 299, 300]
    assert frames(0) == [0]
    assert frames(4) == [0, 3, 4]


def test_rows_and_colours_are_those_of_the_hidden_attention(view: Watched, trace: inspect.Trace) -> None:
    pieces, rows = view.choose(layer=1, head=2, token=11)["attention_rows"]
    expected = row_by_hand(trace.layers[1], 2, 11)
    assert pieces == PIECES and list(rows) == [11]
    np.testing.assert_allclose(rows[11], expected, atol=1e-5 * np.abs(expected).max())
    strip = view.controls["token"]
    np.testing.assert_allclose(strip.values, expected / np.abs(expected).max(), atol=1e-4)
    assert strip.low == -1, "a signed scale"
    assert strip.selected == 11, "new colours leave the choice as it is"


def test_strengths_are_those_of_the_head(view: Watched, trace: inspect.Trace) -> None:
    pieces, dt, decay, written, read = view.choose(layer=1, head=1)["strengths"]
    layer = trace.layers[1]
    np.testing.assert_array_equal(dt, layer.dt[:, 1])
    np.testing.assert_allclose(decay, np.exp(array(layer.log_decay[:, 1])), rtol=1e-6)
    for t in (0, 9, L - 1):
        writes = array(layer.dt[t, 1]) * np.outer(layer.x[t, 1], layer.B[t, 0])
        assert float(written[t]) == pytest.approx(np.linalg.norm(writes), rel=1e-5)
        assert float(read[t]) == pytest.approx(
            np.linalg.norm(state_by_hand(layer, 1, t) @ array(layer.C[t, 0])), rel=1e-4
        )


def test_the_numbers_of_the_token_and_both_half_lives_are_written_out(view: Watched, trace: inspect.Trace) -> None:
    view.choose(layer=1, head=2, token=5)
    layer, text = trace.layers[1], view.text()
    assert "token 5, '('" in text
    assert f"step size dt {layer.dt[5, 2]:.3g} " in re.sub(r"\s+", " ", text)
    here = np.log(2) / -array(layer.log_decay[:, 2]).mean()
    rest = np.log(2) / -float(layer.log_decay_at_rest[2])
    assert f"{here:,.1f} tokens" in text and f"{rest:,.1f} tokens" in text
    assert f"{here:,.1f}" != f"{rest:,.1f}"


def test_only_what_has_changed_is_drawn_anew(view: Watched) -> None:
    assert view.choose(token=3).keys() == {"film_strip", "attention_rows"}, "the charts of the head stay"
    assert view.choose(head=1).keys() == set(NAMES)
    assert view.choose(layer=1).keys() == set(NAMES)
    assert view.choose(lock=True) == {}
    assert view.choose(token=3) == {}, "it was selected already"


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize(
    ("move", "figures"), [({"token": 9}, 2), ({"head": 1}, 3), ({"layer": 1}, 3), ({"token": L - 1}, 0)], ids=str
)
def test_what_a_move_costs(
    trace: inspect.Trace, monkeypatch: pytest.MonkeyPatch, locked: bool, move: dict[str, int], figures: int
) -> None:
    """Axes and images take nearly all the time of a move: no axes are made, and each figure is one small image."""
    view = Watched(trace, PIECES)
    view.drawn = {}
    if locked:
        view.choose(token=3, lock=True)
        view.choose(token=L - 1)
    done: list[Any] = []
    draw, make = FigureCanvasAgg.draw, Axes.__init__
    monkeypatch.setattr(FigureCanvasAgg, "draw", lambda canvas: (done.append(canvas.figure.dpi), draw(canvas)))
    monkeypatch.setattr(Axes, "__init__", lambda *of, **how: (done.append("axes"), make(*of, **how))[1])
    sent = []
    for child in view.children:
        child.observe(lambda change: sent.append(change.owner), ["value", "values"])
    view.choose(**move)
    assert view.last_error is None
    assert done == [SHOWN_DPI] * figures
    assert len(sent) == len(set(sent)), "nothing is written twice"


@pytest.mark.parametrize("fails", [False, True])
def test_a_move_is_not_held_up_by_garbage(view: Watched, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    drawing, draw = [], plots.film_strip

    def noting(states: Any) -> Any:
        drawing.append(gc.isenabled())
        return draw({} if fails else states)

    monkeypatch.setattr(plots, "film_strip", noting)
    view.choose(token=9)
    assert drawing == [False] and gc.isenabled()
    assert (view.last_error is not None) == fails


def test_a_locked_token_stays_beside_the_selected_one(view: Watched, trace: inspect.Trace) -> None:
    view.choose(layer=0, head=3, token=4, lock=True)
    drawn = view.choose(token=20)
    (states,), (_, rows) = drawn["film_strip"], drawn["attention_rows"]
    assert list(rows) == [20, 4]
    assert list(states)[-1] == "locked: 4 'f'" and list(states)[-2].startswith("20 ")
    np.testing.assert_allclose(list(states.values())[-1], state_by_hand(trace.layers[0], 3, 4), atol=1e-5)
    np.testing.assert_allclose(rows[4], row_by_hand(trace.layers[0], 3, 4), atol=1e-5)
    assert "locked: token 4, 'f'" in view.text()
    assert view.controls["lock"].description == "Token 4 is locked"

    assert list(view.choose(head=0)["attention_rows"][1]) == [20, 4], "it stays locked in another head"
    assert list(view.choose(token=4)["attention_rows"][1]) == [4], "nothing to compare it with"
    view.choose(token=20)
    assert list(view.choose(lock=False)["attention_rows"][1]) == [20]
    assert list(view.choose(token=19)["attention_rows"][1]) == [19], "the lock is off for good"
    assert "locked" not in view.text()


def test_the_charts_of_the_head_are_marked_at_both_tokens(view: Watched) -> None:
    def marked() -> list[float]:
        return [float(left) for left in re.findall(r"left: ([\d.]+)%", view.children[-1].value)]

    view.choose(token=4, lock=True)
    assert marked() == [pytest.approx(100 * across(4, L), abs=1e-2)]
    view.choose(token=20)
    assert marked() == [pytest.approx(100 * across(t, L), abs=1e-2) for t in (20, 4)]


def test_tokens_and_heads_at_every_end_can_be_shown(view: Watched) -> None:
    for token in (0, 1, 12, L - 1):
        view.choose(token=token)
        assert view.last_error is None
    for layer, head in ((0, 3), (1, 0), (1, 3)):
        view.choose(layer=layer, head=head)
        assert view.last_error is None


def test_pickers_end_with_the_last_layer_and_head(view: Watched) -> None:
    assert [view.controls[name].max for name in ("layer", "head")] == [1, 3]


def test_nothing_is_shown_where_no_token_is_selected(view: Watched) -> None:
    view.choose(token=None)
    assert view.last_error is None and view.text().strip() == ""
    assert view.choose(token=2).keys() == set(NAMES)


def test_an_exception_takes_the_figures_place_and_goes_with_its_cause(trace: inspect.Trace) -> None:
    broken = dataclasses.replace(trace.layers[1], log_decay=trace.layers[1].log_decay * torch.nan)
    view = Watched(dataclasses.replace(trace, layers=(trace.layers[0], broken)), PIECES)
    view.drawn = {}
    view.choose(layer=1)
    assert view.last_error is not None
    assert type(view.last_error).__name__ in view.text()
    assert not any(view.controls["token"].values), "colours of another head must not stay"
    assert all("<img" not in child.value for child in view.children if hasattr(child, "value"))
    view.choose(layer=0)
    assert view.last_error is None and "Error" not in view.text()
    assert sum("<img" in child.value for child in view.children if hasattr(child, "value")) == 3


def test_a_token_is_shown_as_text_not_as_html(trace: inspect.Trace) -> None:
    view = Watched(trace, ["<b>"] * L)
    shown = " ".join(child.value for child in view.children if hasattr(child, "value"))
    assert "'<b>'" in view.text() and "<b>'" not in shown


def test_as_many_pieces_as_tokens(trace: inspect.Trace) -> None:
    with pytest.raises(ValueError, match=f"pieces must be one for each token, {L}; got 2"):
        StateDebugger(trace, ["a", "b"])
