"""Answers that are declared as edits of the reference: what they do, how they read, and which edits are refused."""

import inspect
import linecache
import traceback

import pytest

from mamba2_lab.course.declare import Exercise, given, reference
from mamba2_lab.course.judge import judge
from mamba2_lab.course.source import source_of

RAIN = 10


def declared() -> Exercise:
    @reference(stars=1, hints=("What is left?", "What comes in?"))
    def barrel(h, decay):
        """h, decay numbers -> what is left of h, and RAIN; RAIN stands here twice."""
        left = h * decay  # of h
        return left, RAIN

    barrel.cases(lambda: [given(4.0, 0.5), given(0.0, 0.25)])
    barrel.oracle(lambda h, decay: [h - h * (1 - decay), 10])
    return barrel


@pytest.fixture
def barrel() -> Exercise:
    return declared()


def slip(exercise: Exercise, **edit):
    exercise.slip("told", **edit)
    return exercise.wrong_answers[-1].function


# What it does


def test_a_slip_is_the_reference_with_another_text_in_it(barrel):
    adds = slip(barrel, adds={"h * decay": "h + decay"})
    assert adds(4.0, 0.5) == (4.5, 10)
    assert barrel(4.0, 0.5) == (2.0, 10), "the reference has changed"
    assert (adds.__name__, adds.__qualname__, adds.__module__) == ("adds", "adds", __name__)
    assert list(inspect.signature(adds).parameters) == ["h", "decay"]
    assert adds not in globals().values() and "adds" not in globals()


def test_wrong_answers_of_both_kinds_stand_in_the_order_of_their_declaration(barrel):
    barrel.slip("Sums are no decays.", adds={"*": "+"})

    @barrel.wrong("Nothing rains.")
    def is_dry(h, decay):
        return h * decay, 0

    barrel.slip("All is kept.", keeps={" * decay": ""})
    assert [wrong.function.__name__ for wrong in barrel.wrong_answers] == ["adds", "is_dry", "keeps"]
    assert judge(barrel, lambda h, decay: (h + decay, RAIN)).message == "Sums are no decays."
    assert judge(barrel, lambda h, decay: (h * decay, 0)).message == "Nothing rains."
    assert judge(barrel, lambda h, decay: (h, RAIN)).message == "All is kept."


def test_several_edits_are_made_at_once_and_none_sees_what_another_wrote(barrel):
    assert slip(barrel, rounds={"h * decay": "h // decay", "left, RAIN": "left, -RAIN"})(5.0, 2.0) == (2.0, -10)
    assert slip(barrel, exchanges={"= h ": "= decay ", " decay": " h"})(4.0, 0.5) == (2.0, 10)
    assert slip(barrel, divides_by_h={"h ": "decay ", "* decay": "/ h"})(4.0, 0.5) == (0.125, 10), "side by side"
    assert slip(barrel, turns={"return left": "return h * decay", "h * decay": "decay"})(4.0, 0.5) == (2.0, 10)


def test_it_takes_names_from_the_module_of_the_reference_when_it_is_called(barrel, monkeypatch):
    keeps = slip(barrel, keeps={" * decay": ""})
    monkeypatch.setitem(globals(), "RAIN", 20)
    assert keeps(1.0, 0.5) == (1.0, 20)


def test_what_is_also_right_passes_with_the_values_of_an_edit(barrel):
    assert judge(barrel, lambda h, decay: (h * decay, 11)).status == "wrong"
    barrel.also_right(rains_more={"RAIN": "RAIN + 1"}, rains_less={"RAIN": "RAIN - 1"})
    barrel.also_right(stays_dry={"RAIN": "0"})
    assert [other(4.0, 0.5) for other in barrel.other_answers] == [(2.0, 11), (2.0, 9), (2.0, 0)]
    assert [other.__name__ for other in barrel.other_answers] == ["rains_more", "rains_less", "stays_dry"]
    assert judge(barrel, lambda h, decay: (h * decay, 11)).status == "passed"
    assert judge(barrel, lambda h, decay: (h * decay, 9)).status == "passed"


# How it reads


def test_its_source_is_whole_and_has_the_edit_in_it(barrel):
    adds = slip(barrel, adds={"h * decay": "h + decay"})
    body = ":\n    left = h + decay  # of h\n    return left, RAIN"
    assert source_of(adds) == "def adds(h, decay)" + body
    assert source_of(adds, name="barrel") == "def barrel(h, decay)" + body
    assert inspect.getsource(adds).rstrip() == source_of(adds)


def test_slips_of_the_same_name_keep_their_own_source(barrel):
    adds = slip(barrel, adds={"h * decay": "h + decay"})

    @reference(stars=1, hints=("?", "!"))
    def bucket(h):
        return h

    other = slip(bucket, adds={"return h": "return h + 1"})
    linecache.checkcache()
    assert source_of(other) == "def adds(h):\n    return h + 1"
    assert "h + decay" in source_of(adds)


def test_a_function_without_a_docstring_loses_no_line():
    @reference(stars=1, hints=("?", "!"))
    def first_and_last(x):
        # both ends
        first = x[0]
        return first, x[-1]

    assert source_of(slip(first_and_last, takes_the_second={"x[0]": "x[1]"})) == (
        "def takes_the_second(x):\n    # both ends\n    first = x[1]\n    return first, x[-1]"
    )


def test_a_traceback_shows_the_edited_line(barrel):
    divides = slip(barrel, divides={"h * decay": "h / 0"})
    linecache.checkcache()
    with pytest.raises(ZeroDivisionError) as raised:
        divides(1.0, 0.5)
    last = traceback.extract_tb(raised.value.__traceback__)[-1]
    assert (last.name, last.lineno, last.line) == ("divides", 2, "left = h / 0  # of h")
    assert last.filename == f"<{__name__}.barrel, divides>"


# What is refused, when it is declared


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (
            {"h + decay": "h"},
            r"replace what stands once in the body of barrel; got 'h \+ decay', which stands there 0",
        ),
        ({"left": "right"}, "replace what stands once in the body of barrel; got 'left', which stands there 2 times$"),
        ({"RAIN": "0", "left": "right"}, ".+ got 'left', which stands there 2 times$"),
        ({"barrel": "bucket"}, ".+ got 'barrel', which stands there 0 times$"),  # the line of the def is no body
        ({"numbers": "letters"}, ".+ got 'numbers', which stands there 0 times$"),  # nor is the docstring
        ({"": "h"}, ".+ got '', which stands there"),
        ({"h * decay": "h", "decay": "2"}, "replace texts that do not overlap; got 'h \\* decay', 'decay'$"),
        ({"= h * decay": "= h", "h * decay  #": "h  #"}, "replace texts that do not overlap"),
        ({"decay": "decay"}, "replace texts by others; got {'decay': 'decay'}$"),
        ({}, "replace texts by others; got {}$"),
        ({"h * decay": "h * (decay"}, r"be valid Python; got '\(' was never closed in line 2, `left = h \* \(decay"),
        ({"return left": "  return left"}, "be valid Python; got unexpected indent in line 3, `return left, RAIN`$"),
    ],
)
@pytest.mark.parametrize("declare", ["slip", "also_right"])
def test_an_edit_that_cannot_be_made_is_refused_at_once(barrel, declare, edit, told):
    with pytest.raises(ValueError, match=f"^drips must {told}"):
        slip(barrel, drips=edit) if declare == "slip" else barrel.also_right(drips=edit)
    assert not barrel.wrong_answers and not barrel.other_answers


@pytest.mark.parametrize(("edits", "came"), [({}, "none"), ({"a": {"*": "+"}, "b": {"*": "/"}}, "a, b")])
def test_a_slip_is_one_wrong_answer(barrel, edits, came):
    with pytest.raises(TypeError, match=f"a slip of barrel must be one wrong answer under its name; got {came}$"):
        barrel.slip("told", **edits)
