"""A refusal says the same in code and at the keyboard, each time in the names used there."""

import pickle

import pytest

from mamba2_lab import Mamba2Config, SamplingConfig
from mamba2_lab.checks import Refusal, require_number, told
from mamba2_lab.training import TrainingConfig
from mamba2_lab.widgets.view import error_html


@pytest.mark.parametrize(
    ("make", "in_code", "at_the_keyboard"),
    [
        (
            lambda: SamplingConfig(top_k=0),
            "top_k must be at least 1, or None for all tokens; got 0",
            "--top-k must be at least 1; got 0",
        ),
        (
            lambda: SamplingConfig(top_k=2.5),
            "top_k must be a whole number or None; got 2.5",
            "--top-k must be a whole number; got 2.5",
        ),
        (lambda: SamplingConfig(min_p=2), "min_p must be in [0, 1], or None; got 2", "min_p must be in [0, 1]; got 2"),
        (
            lambda: TrainingConfig(batch_size=8, accumulation=3),
            "accumulation must be a divisor of batch_size = 8; got 3",
            "accumulation must be a divisor of --batch-size = 8; got 3",
        ),
        (
            lambda: Mamba2Config(dt_min=0.2),
            "dt_max must be at least dt_min = 0.2; got 0.1",
            "the largest step must be at least the least step = 0.2; got 0.1",
        ),
    ],
)
def test_a_refusal_takes_the_names_of_the_place(make, in_code, at_the_keyboard):
    called = {
        "top_k": "--top-k",
        "batch_size": "--batch-size",
        "dt_max": "the largest step",
        "dt_min": "the least step",
    }
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert str(caught.value) == in_code
    assert told(caught.value, called) == at_the_keyboard


def test_what_came_is_shown_as_it_came():
    """Nothing in it is taken for a name."""
    with pytest.raises(TypeError) as caught:
        require_number("top_p", "`top_p`")
    assert told(caught.value, {"top_p": "--top-p"}) == "--top-p must be a number; got '`top_p`'"


@pytest.mark.parametrize("error", [ValueError("top_k is odd"), OSError(2, "gone", "top_k"), KeyError(), ValueError()])
def test_any_other_exception_is_told_as_it_is(error):
    assert told(error, {"top_k": "--top-k"}) == str(error)


def test_a_refusal_travels_between_processes():
    error = pickle.loads(pickle.dumps(ValueError(Refusal("steps", "above 0", 0))))
    assert str(error) == "steps must be above 0; got 0" and told(error, {"steps": "--steps"})[:7] == "--steps"


def test_a_page_shows_it_with_the_label_of_the_field():
    error = ValueError(Refusal("length", "1 or more", "<b>"))
    assert "ValueError: new tokens must be 1 or more; got &#x27;&lt;b&gt;&#x27;<" in error_html(
        error, {"length": "new tokens"}
    )
