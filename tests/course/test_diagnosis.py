"""Which of several causes is told, where more than one explains an answer."""

import pytest
import torch

from mamba2_lab.course.declare import given, reference
from mamba2_lab.course.judge import judge


@reference(stars=1, hints=("?", "!"))
def blend(x, a, b, c):
    """Four of one shape -> their blend, what is left, and a sum."""
    first = torch.mul(x, a)
    return first + b * c, 2 * x - b, x + a + c


blend.returns("the blend", "the rest", "the sum")


@blend.cases
def without_b_and_with_it():
    x, a, c = torch.tensor([1.0, 2.0, 3.5]), torch.tensor([0.5, 0.25, 2.0]), torch.tensor([3.0, 1.5, 0.75])
    return [given(x, a, torch.zeros(3), c), given(-x, a, x.flip(0), -c)]


@blend.oracle
def in_double(x, a, b, c):
    x, a, b, c = (each.double() for each in (x, a, b, c))
    return x * a + b * c, 2 * x - b, x + a + c


blend.slip("x meets c.", meets_c={"torch.mul(x, a)": "x * c"})
blend.slip("b meets a.", meets_a={"b * c": "b * a"})
blend.slip("a is an exponent.", takes_exponents={"torch.mul(x, a)": "x * a.exp()"})
blend.slip("x meets nothing.", meets_nothing={"torch.mul(x, a)": "torch.mul(x, None)"})
blend.slip("The blend is turned.", turns_it={"first + b * c": "-(first + b * c)"})
blend.slip("The sign of c is lost.", loses_the_sign={"first + b * c": "c.abs() * b"})


@blend.wrong("It writes into x.")
def writes_into_x(x, a, b, c):
    x += 1
    return x * a + b * c, 2 * x - b, x + a + c


@pytest.mark.parametrize(
    "blended, left, added, says",
    [
        # What is the same in every exercise, before a change of the reference (the two sides of `-`), and its looks
        (lambda x, a, b, c: x * a + b * c, lambda x, b: b - 2 * x, None, "The rest has the wrong sign"),
        # One change of the reference, before two known mistakes, and one of them that explains some cases
        (lambda x, a, b, c: x * c + b * a, None, None, "It comes out as if `a` and `c` were exchanged."),
        # Two known mistakes that explain all cases, before one that explains some
        (lambda x, a, b, c: x * a.exp() + b * a, None, None, "Two mistakes at once. b meets a. And: a is an exponent."),
        # A known mistake that explains some cases, before a change that nobody can tell apart in words
        (lambda x, a, b, c: b * c, None, None, "The sign of c is lost."),
        # A known mistake that explains the first part that is off, before a change that does
        (lambda x, a, b, c: x * c + b * c, None, torch.square, "x meets c."),
        # A known mistake there, before what is the same in every exercise: the wrong sign
        (lambda x, a, b, c: -(x * a + b * c), None, torch.square, "The blend is turned."),
        # A change that explains it, before what it looks like: too small by `x`
        (None, lambda x, b: x - b, torch.square, "The rest comes out as if `2` were left out."),
    ],
    ids=["every exercise", "one change", "two mistakes", "some cases", "known part", "known sign", "changed part"],
)
def test_of_two_that_explain_an_answer_the_more_certain_is_told(blended, left, added, says):
    def answer(x, a, b, c):
        return (
            blended(x, a, b, c) if blended else x * a + b * c,
            left(x, b) if left else 2 * x - b,
            added(x) if added else x + a + c,
        )

    assert judge(blend, answer).message.startswith(says)


def test_a_known_mistake_comes_before_a_change_in_place_and_before_an_error():
    assert judge(blend, lambda x, a, b, c: blend.reference(x.add_(1), a, b, c)).message == "It writes into x."
    assert "changes its input `x` in place" in judge(blend, lambda x, a, b, c: blend(x.mul_(2), a, b, c)).message

    assert judge(blend, lambda x, a, b, c: torch.mul(x, None)).message == "x meets nothing."
