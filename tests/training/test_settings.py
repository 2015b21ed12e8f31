"""Bad settings are refused by name; what is allowed, torch can compute with."""

from __future__ import annotations

import math

import pytest
from support.small_models import small_model
from support.trainings import quick_fit

from mamba2_lab.training import (
    TrainingConfig,
)

ABOVE_ZERO = ["steps", "batch_size", "length", "learning_rate", "clip_norm", "accumulation"]
ZERO_OR_MORE = ["warmup_steps", "final_share", "weight_decay", "save_every", "evaluate_every"]
COUNTS = ["steps", "batch_size", "length", "warmup_steps", "accumulation", "save_every", "evaluate_every"]
NUMBERS = ["learning_rate", "final_share", "weight_decay", "clip_norm"]
HUGE = 10**400


@pytest.mark.parametrize(
    ("name", "value", "error", "expected"),
    [
        *[(name, value, ValueError, "above 0") for name in ABOVE_ZERO for value in (0, -1)],
        *[(name, -1, ValueError, "0 or more") for name in ZERO_OR_MORE],
        *[(name, value, TypeError, "a whole number") for name in [*COUNTS, "seed"] for value in (1.5, True, None)],
        *[(name, value, ValueError, "at most 2,000,000,000") for name in COUNTS for value in (2**31, HUGE)],
        *[(name, math.nan, ValueError, "above 0") for name in ("learning_rate", "clip_norm")],
        *[(name, math.nan, ValueError, "0 or more") for name in ("final_share", "weight_decay")],
        *[(name, value, TypeError, "a number") for name in NUMBERS for value in ("fast", None, True, 1j)],
        *[("final_share", value, ValueError, "at most 1") for value in (1.5, math.inf)],
        *[("weight_decay", value, ValueError, "at most 1,000,000") for value in (1e7, math.inf)],
        *[("learning_rate", value, ValueError, "at most 1e+37") for value in (math.inf, 1e300, 1e38)],
        ("seed", 10**13, ValueError, "at most 8,000,000,000,000"),
        ("seed", -(10**13), ValueError, "at least -8,000,000,000,000"),
        *[
            ("betas", value, TypeError, "a pair of numbers")
            for value in (0.9, None, (0.9,), (1, 2, 3), ("0.9", 0.9), [[], 0])
        ],
        *[
            ("betas", value, ValueError, "two numbers from 0 up to, but not, 1")
            for value in ((1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9, math.nan), (math.inf, 0.9), (0.9, HUGE))
        ],
        *[
            (name, value, TypeError, "True or False")
            for name in ("compile", "checkpoint_blocks")
            for value in ("no", 1)
        ],
        *[("precision", value, ValueError, "one of fp32, bf16, fp16") for value in ("fp64", None, [], 16)],
    ],
)
def test_a_bad_setting_is_refused_with_its_name_the_expectation_and_the_value(name, value, error, expected):
    with pytest.raises(error) as caught:
        TrainingConfig(**{name: value})
    assert str(caught.value) == f"{name} must be {expected}; got {value!r}"


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_no_float_holds_is_refused_without_writing_it_out(name):
    with pytest.raises(ValueError, match=f"^{name} must be a number that a float can hold; got one of 1329 bits$"):
        TrainingConfig(**{name: HUGE})


@pytest.mark.parametrize(
    "extreme",
    [
        {"betas": (0, 0)},  # torch wants floats
        {"betas": [0.0, 1 - 1e-16]},
        {"betas": (1 - 1e-16, 0.999), "learning_rate": 1e22},
        {"learning_rate": 9e36},
        {"learning_rate": 1e-300},
        {"weight_decay": 1_000_000},
        {"clip_norm": math.inf},
        {"clip_norm": 1e300},
        {"seed": 8_000_000_000_000},
        {"seed": -8_000_000_000_000},
        {"warmup_steps": 2_000_000_000, "save_every": 2_000_000_000},
        {"final_share": 1},
    ],
    ids=str,
)
def test_what_is_allowed_torch_can_compute_with(extreme):
    """The loss may be lost, but in our words."""
    try:
        records = quick_fit(small_model(), **{"steps": 2, **extreme})
    except FloatingPointError as error:
        assert "a lower learning rate than" in str(error)
    else:
        assert len(records) == 2
