"""A guess is kept and shown beside what came out, and nothing about it stops a run."""

import ast
import json
from collections import Counter

import build
import ipywidgets
import pytest
from ipywidgets.widgets.widget import _instances

from mamba2_lab.course import outcome, predict, predictions
from mamba2_lab.course.display import Message

SOURCES = sorted((build.NOTEBOOKS / "source").glob("*.py"))


@pytest.fixture(autouse=True)
def page(tmp_path, monkeypatch):
    """What is displayed, in order; a kernel that has asked nothing yet, in a reader's folder."""
    shown = []
    (tmp_path / "answers").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predictions, "display", lambda data, raw: shown.append(data))
    monkeypatch.setattr("mamba2_lab.course.display.display", shown.append)
    restart(monkeypatch)
    return shown


def restart(monkeypatch):
    monkeypatch.setattr(predictions, "_asked", {})
    monkeypatch.setattr(predictions, "_guesses", {})


def field(data) -> ipywidgets.Widget:
    """The field of a question that was displayed."""
    model = data["application/vnd.jupyter.widget-view+json"]["model_id"]
    return _instances[model].children[1].children[0]


def said(page) -> str:
    assert isinstance(page[-1], Message)
    return repr(page[-1])


def test_a_choice_that_is_right_is_told_so(page):
    predict("rank", "What is its rank?", ["2", "3"])
    field(page[-1]).value = "2"
    outcome("rank", 2)
    assert said(page) == "You said 2. So it is."


@pytest.mark.parametrize(
    ("guess", "found", "told"),
    [
        ("10.12", 10.12, "You said 10.12 mm. It is 10.1 mm: exactly right."),
        ("10", 10.12, "You said 10 mm. It is 10.1 mm: close."),
        ("about 9", 10.12, "You said about 9 mm. It is 10.1 mm: not close."),
        ("1,000", 1000, "You said 1,000 mm. It is 1,000 mm: exactly right."),
        ("0", 0, "You said 0 mm. It is 0 mm: exactly right."),
        ("a lot", 10.12, "You said: a lot. It is 10.1 mm."),
    ],
)
def test_a_number_is_measured(page, guess, found, told):
    predict("level", "How high?", unit="mm")
    field(page[-1]).value = guess
    outcome("level", found)
    assert said(page) == told


def test_words_stand_beside_what_came_out(page):
    predict("forgetting", "When would you forget?")
    field(page[-1]).value = "at newlines <b>"
    outcome("forgetting")
    assert said(page) == "You said: at newlines <b>. What came out stands above."
    assert "&lt;b&gt;" in page[-1]._repr_html_()


def test_without_a_guess_the_outcome_is_told_and_nothing_more(page):
    outcome("never asked", 3.0)
    assert said(page) == "It is 3."
    outcome("never asked", "three")
    assert said(page) == "What came out: three."
    outcome("never asked")
    assert len(page) == 2, "the output above says it"


def test_a_choice_that_is_none_of_the_choices_is_shown_as_it_is(page):
    predict("size", "How large?", ["small", "large"])
    field(page[-1]).value = "small"
    outcome("size", "4e-07")
    assert said(page) == "You said: small. What came out: 4e-07."


def test_a_guess_outlives_the_kernel_and_may_be_changed(page, monkeypatch, tmp_path):
    predict("rank", "What is its rank?", ["2", "3"])
    field(page[-1]).value = "3"
    restart(monkeypatch)
    predict("rank", "What is its rank?", ["2", "3"])
    assert field(page[-1]).value == "3"
    field(page[-1]).value = "2"
    restart(monkeypatch)
    outcome("rank", 2)
    assert said(page) == "You said: 2. It is 2."
    assert json.loads((tmp_path / "guesses.json").read_text(encoding="utf-8")) == {"rank": "2"}


@pytest.mark.parametrize("text", ["not JSON", "[1, 2]", ""])
def test_a_broken_file_of_guesses_stops_nothing(page, tmp_path, text):
    (tmp_path / "guesses.json").write_text(text, encoding="utf-8")
    predict("rank", "What is its rank?", ["2", "3"])
    field(page[-1]).value = "2"
    outcome("rank", 2)
    assert said(page) == "You said 2. So it is."


def test_elsewhere_nothing_is_written(page, tmp_path):
    (tmp_path / "answers").rmdir()
    predict("rank", "What is its rank?", ["2", "3"])
    field(page[-1]).value = "2"
    assert list(tmp_path.iterdir()) == []


def test_where_no_kernel_runs_the_question_can_be_read(page):
    predict("it", "How much of *snow* does `it` get?", ["none & nothing", "all"])
    shown = page[-1]
    assert shown["text/plain"].endswith("\n  ( ) none & nothing\n  ( ) all")
    for part in ("How much of <em>snow</em> does <code>it</code> get?", "none &amp; nothing</li>"):
        assert part in shown["text/html"]


def test_what_is_no_question_is_refused():
    with pytest.raises(TypeError, match="choices must be a sequence of texts; got the text 'yes'"):
        predict("x", "?", "yes")
    with pytest.raises(ValueError, match="unit must be None where there are choices; got 'mm'"):
        predict("x", "?", ["1", "2"], unit="mm")


# In the notebooks


def calls(source, name):
    tree = ast.parse(source.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == name]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_prediction_has_its_outcome_below(source):
    asked = {node.args[0].value: node.lineno for node in calls(source, "predict")}
    told = {node.args[0].value: node.lineno for node in calls(source, "outcome")}
    assert asked.keys() == told.keys() and len(asked) >= 3
    assert all(asked[name] < told[name] for name in asked)
    assert "Predict, then" not in source.read_text(encoding="utf-8")


def test_no_two_questions_have_one_name():
    names = Counter(node.args[0].value for source in SOURCES for node in calls(source, "predict"))
    assert [name for name, times in names.items() if times > 1] == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_no_choice_is_given_away_by_the_cell_that_tells_it(source):
    """What is handed to `outcome` is computed: the choice that came out does not stand there as a text."""
    for node in calls(source, "outcome"):
        assert len(node.args) < 2 or not isinstance(node.args[1], ast.Constant), node.args[0].value
