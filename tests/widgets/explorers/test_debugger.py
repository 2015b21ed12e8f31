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
from support.small_models import random_ids, small_model, small_stack

from mamba2_lab import inspect
from mamba2_lab.plots import debugger as plots
from mamba2_lab.plots import dials
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


# Layers of other kinds

KINDS = ["mamba1", "mamba2", "mamba3", "attention"]


@pytest.fixture
def mixed(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Of a layer of each kind; what is drawn is kept by name."""
    model = small_stack(KINDS, d_intermediate=8, mamba3={"is_mimo": True, "mimo_rank": 2})
    view = Watched(inspect.trace(model, random_ids(L)), PIECES)
    view.drawn = drawn = {}

    def keep(module: Any, name: str) -> None:
        draw = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given: (drawn.__setitem__(name, given), draw(*given))[1])

    for name in (*NAMES, "turning_strengths", "channel_strengths"):
        keep(plots, name)
    keep(dials, "turn_dials")
    return view


def layer_of(view: Watched, i: int) -> Any:
    return view._trace.layers[i]


def test_each_kind_shows_what_it_has_and_nothing_else(mixed: Watched) -> None:
    shown = {
        "mamba2": {"film_strip", "attention_rows", "strengths"},
        "mamba3": {"film_strip", "attention_rows", "turn_dials", "turning_strengths"},
        "attention": {"attention_rows"},
        "mamba1": {"film_strip", "attention_rows", "channel_strengths"},
    }
    for kind, figures in shown.items():
        assert mixed.choose(layer=KINDS.index(kind)).keys() == figures
        assert mixed.last_error is None
        images = sum("<img" in child.value for child in mixed.children if hasattr(child, "value"))
        assert images == len(figures), "nothing of the layer before stays"
        rest = mixed.text()
        assert ("Half-life of layer" in rest) == (kind in ("mamba2", "mamba3"))
    mixed.choose(layer=3)
    assert "Layer 3 is attention: head 0 looks back at every token" in mixed.text()
    assert "It has no state to show, no step sizes, no decays and no turns." in mixed.text()


def test_a_mamba3_head_is_shown_with_its_angles_and_turns(mixed: Watched) -> None:
    layer = layer_of(mixed, 2)
    drawn = mixed.choose(layer=2, head=3, token=17)
    now, own = drawn["turn_dials"]
    assert now.token == f"token 17, {PIECES[17]!r}"
    np.testing.assert_array_equal(now.turns, layer.turns[17, 3])
    np.testing.assert_array_equal(own, layer.own_turns[17, 3])
    pieces, dt, decay, lam, written, read, turned = drawn["turning_strengths"]
    expected = (layer.dt, layer.log_decay.exp(), layer.lam, layer.written, layer.read, layer.own_turns)
    for found, table in zip((dt, decay, lam, written, read, turned), expected, strict=True):
        np.testing.assert_array_equal(found, table[:, 3])
    np.testing.assert_allclose(drawn["attention_rows"][1][17], layer.attention(3)[17], rtol=1e-6)
    states = drawn["film_strip"][0]
    np.testing.assert_allclose(list(states.values())[-1], layer.states(3)[17], rtol=1e-6)
    farthest = int(np.abs(array(own)).argmax())
    text = re.sub(r"\s+", " ", mixed.text())
    assert f"most of all pair {farthest}, by {own[farthest]:.3g} turns" in text
    assert f"λ {layer.lam[17, 3]:.3g}" in text

    mixed.choose(lock=True)
    drawn = mixed.choose(token=5)
    now, own, locked = drawn["turn_dials"]
    assert (now.token, locked.token) == (f"token 5, {PIECES[5]!r}", f"locked token 17, {PIECES[17]!r}")
    np.testing.assert_array_equal(locked.turns, layer.turns[17, 3])
    np.testing.assert_array_equal(own, layer.own_turns[5, 3])
    assert "turning_strengths" not in drawn, "the charts of the head stay"


def test_a_channel_of_mamba1_is_shown_with_the_decays_of_its_numbers(mixed: Watched) -> None:
    layer = layer_of(mixed, 0)
    drawn = mixed.choose(head=31, token=9)
    np.testing.assert_array_equal(drawn["channel_strengths"][-1], layer.decays(31))
    half_lives = layer.half_life_by_state[31]
    assert f"{half_lives.min():,.1f} tokens to {half_lives.max():,.1f} tokens" in re.sub(r"\s+", " ", mixed.text())
    assert mixed.controls["head"].description == "channel (0 to 31)"


def test_heads_are_those_of_the_layer_and_each_move_draws_once(mixed: Watched) -> None:
    mixed.choose(head=31)
    sent: list[Any] = []
    for child in mixed.children:
        child.observe(lambda change: sent.append(change.owner), ["value", "values"])
    drawn = mixed.choose(layer=1)
    assert mixed.controls["head"].value == mixed.controls["head"].max == 3
    assert mixed.controls["head"].description == "head (0 to 3)"
    assert len(sent) == len(set(sent)), "nothing is written twice"
    np.testing.assert_array_equal(drawn["strengths"][1], layer_of(mixed, 1).dt[:, 3])
    mixed.choose(layer=0)
    assert (mixed.controls["head"].value, mixed.controls["head"].max) == (3, 31)
    assert mixed.choose(head=7), "it still listens"


@pytest.mark.parametrize(("layer", "figures"), [(0, 2), (2, 3), (3, 1)])
def test_a_step_along_the_text_draws_what_depends_on_the_token(mixed: Watched, layer: int, figures: int) -> None:
    mixed.choose(layer=layer)
    assert len(mixed.choose(token=3)) == figures


@pytest.mark.parametrize("layer", [0, 2])
def test_marks_go_from_the_first_chart_to_the_foot_of_the_last(mixed: Watched, layer: int) -> None:
    mixed.choose(layer=layer, token=4)
    height = {0: 3 * 0.6 + 1.5 + 3 * 0.16, 2: 5 * 0.6 + 1.5 + 5 * 0.16}[layer]
    whole = 96 * (height + plots.TOP + plots.BOTTOM) + 12  # pixels, with the empty caption
    (top,), (bottom,) = (re.findall(rf"{side}: ([\d.]+)%", mixed.children[-1].value) for side in ("top", "bottom"))
    assert 0 <= 96 * plots.TOP - float(top) / 100 * whole <= 6
    assert abs(float(bottom) / 100 * whole - 96 * plots.BOTTOM - 12) <= 3


def test_a_token_is_shown_as_text_not_as_html(trace: inspect.Trace) -> None:
    view = Watched(trace, ["<b>"] * L)
    shown = " ".join(child.value for child in view.children if hasattr(child, "value"))
    assert "'<b>'" in view.text() and "<b>'" not in shown


def test_as_many_pieces_as_tokens(trace: inspect.Trace) -> None:
    with pytest.raises(ValueError, match=f"pieces must be one for each token, {L}; got 2"):
        StateDebugger(trace, ["a", "b"])
