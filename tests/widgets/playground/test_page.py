"""The page shows errors with the names of its fields, and its fields when they are wanted."""

from __future__ import annotations

import math
import threading

import pytest
import torch
from anywidget import AnyWidget
from ipywidgets import VBox
from support.playgrounds import SOON, TOKENIZER, generated, playground, press, readable_model, shown

from mamba2_lab.widgets import Playground, TokenStrip


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("top_k", -3, "ValueError: top-k must be 0, to keep all, or more; got -3"),
        ("top_k", 2.5, "TypeError: top-k must be a whole number; got 2.5"),
        ("length", 0, "ValueError: new tokens must be 1 or more; got 0"),
        ("length", 2.5, "TypeError: new tokens must be a whole number; got 2.5"),
        ("seed", 2**64, "ValueError: seed must be in"),
        ("seed", 0.5, "TypeError: seed must be a whole number; got 0.5"),
    ],
)
def test_a_bad_number_is_shown_with_its_name(name, value, message):
    found = playground()
    found.controls[name].value = value
    press(found, "generate")
    assert 'role="alert"' in shown(found)
    assert message in shown(found)
    found.controls[name].value = 5
    press(found, "generate")
    assert found.last_error is None and "alert" not in shown(found)
    assert found.texts != []


def test_a_model_that_is_not_there_is_shown(tmp_path):
    found = playground()
    found.controls["elsewhere"].value = str(tmp_path / "nothing")
    found.controls["model"].value = ""
    assert found.wait(SOON)
    assert isinstance(found.last_error, FileNotFoundError)
    assert "no model at" in shown(found)
    press(found, "generate")
    assert isinstance(found.last_error, FileNotFoundError)
    found.controls["model"].value = "own"
    assert found.wait(SOON)
    assert found.last_error is None
    press(found, "generate")
    assert len(found.texts[0]) == 12


def test_no_model_chosen_is_said_so():
    found = playground()
    found.controls["model"].value = ""
    press(found, "generate")
    assert "folder or Hub id must be the path of a folder, or owner/name; got &#x27;&#x27;" in shown(found)


def test_a_folder_is_read(tmp_path):
    model = readable_model()
    model.save_pretrained(tmp_path, tokenizer=TOKENIZER)
    found = Playground(tmp_path, "ab", length=3)
    assert found.wait(SOON) and found.last_error is None
    press(found, "generate")
    assert found.entries[0].model == str(tmp_path) and found.entries[0].tokens == 3


def test_a_run_that_ends_in_an_error_goes_on_where_it_was():
    model = readable_model()
    found = playground(model, length=4)
    press(found, "generate")
    unembed = model.unembed
    model.unembed = lambda u: unembed(u) * math.nan  # type: ignore[method-assign]
    press(found, "continue")
    assert "logits must be finite numbers to sample from" in shown(found)
    assert isinstance(found.last_error, ValueError)
    assert (found.entries[1].ended, found.entries[1].tokens) == ("error", 0)
    model.unembed = unembed  # type: ignore[method-assign]
    press(found, "continue")
    assert found.last_error is None
    assert found.texts == [generated(model, 8, 0, temperature=0.7)]


def test_continue_is_for_the_model_that_wrote_the_text():
    found = playground()
    press(found, "generate")
    found.controls["model"].value = "small"
    assert found.wait(SOON)
    assert found.controls["continue"].disabled
    found.controls["model"].value = "own"
    assert found.wait(SOON)
    assert not found.controls["continue"].disabled


def test_an_error_in_a_picture_is_shown(monkeypatch):
    found = playground()
    press(found, "generate")
    monkeypatch.setattr("mamba2_lab.plots.candidates", lambda *a: 1 / 0)
    found.strips[0].selected = 0
    assert isinstance(found.last_error, ZeroDivisionError)
    assert "ZeroDivisionError" in shown(found)


def test_every_control_says_what_it_is():
    found = playground()
    nameless = [name for name, control in found.controls.items() if not control.description]
    assert nameless == []


@pytest.mark.parametrize(("widget", "base"), [(Playground, VBox), (TokenStrip, AnyWidget)])
def test_no_name_hides_one_of_the_base_class(widget, base):
    """ipywidgets has many private methods, and some are called only when a page is made."""
    assert set(vars(widget)) & set(dir(base)) <= OVERRIDDEN


OVERRIDDEN = {"__init__", "__doc__", "__module__", "__annotations__", "_esm", "_css", "_repr_mimebundle_", "close"}
OVERRIDDEN |= {
    "_trait_default_generators",
    "_all_trait_default_generators",
    "_traits",
    "_static_immutable_initial_values",
}
OVERRIDDEN |= {"_descriptors", "_instance_inits", "_states_to_send"}


def test_a_folder_field_and_a_second_column_show_when_they_are_wanted():
    found = playground()
    field, second = found.controls["elsewhere"].layout, found._columns[1].settings_box.layout
    assert (field.display, second.display) == ("none", "none")
    found.controls["model"].value = ""
    found.controls["compare"].value = True
    assert (field.display, second.display) == (None, None)


def test_threads_that_are_made_after_a_run_have_torchs_number_again():
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(4)
    try:
        found = playground()
        found.controls["generate"].click()
        assert found.wait(SOON)
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
    finally:
        torch.set_num_threads(before)
    assert found.texts[0] and seen == [4]
