"""The learner's chain: the reference answers of notebooks 01 to 06, and nothing else, are the block of the package."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.oracle import mamba2 as oracle
from support.oracle.mamba2 import largest_difference, perturb

from mamba2_lab.course import exercises
from mamba2_lab.course.source import source_of
from mamba2_lab.layers import Mamba2

EXERCISES = {name: found for name, found in exercises.all_exercises().items() if 1 <= found.chapter.number <= 6}
LINKS = {  # the answers that the block is made of, by chapter
    1: ["discretise"],
    4: ["segsum", "decay_mask", "attention_matrix"],
    5: ["split_into_chunks", "left_behind", "pass_between_chunks", "read_incoming", "chunked"],
    6: ["split_projection", "causal_conv", "step_size", "skip", "gated_rms_norm", "mamba2_block"],
}
SIZES = {"d_model": 12, "d_state": 5, "headdim": 4, "chunk_size": 4}
VARIANTS = {
    "plain": {},
    "two groups": {"ngroups": 2},
    "norm before gate": {"norm_before_gate": True},
    "biases": {"bias": True},
    "no convolution bias": {"conv_bias": False},
    "everything": {"ngroups": 3, "bias": True, "norm_before_gate": True, "dt_limit": (0.02, 0.3), "d_conv": 3},
}
every_variant = pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
every_link = pytest.mark.parametrize("link", [name for names in LINKS.values() for name in names])


def one_notebook(replaced: str = "") -> dict[str, Any]:
    """Every answer pasted into one namespace, in which nothing of the package is at hand.

    replaced: the exercise that is answered with its first wrong answer.
    """
    names: dict[str, Any] = {"torch": torch, "math": math, "F": F}
    for name, exercise in EXERCISES.items():
        answer = exercise.wrong_answers[0].function if name == replaced else exercise.reference
        exec(source_of(answer, name), names)
    return names


def a_mixer_and_a_text(fields: dict[str, Any], b: int, l: int) -> tuple[Mamba2, torch.Tensor]:
    torch.manual_seed(0)
    mixer = perturb(Mamba2(**{**SIZES, **fields}))
    return mixer, torch.randn(b, l, mixer.config.d_model)


@torch.no_grad()
def output_of(names: dict[str, Any], mixer: Mamba2, u: torch.Tensor) -> torch.Tensor:
    return names["mamba2_block"](u, mixer.state_dict(), mixer.config, names["chunked"])


@every_variant
@pytest.mark.parametrize("l", [1, 8, 11])
@torch.no_grad()
def test_the_answers_together_are_the_block_of_the_package(fields, l):
    mixer, u = a_mixer_and_a_text(fields, 2, l)
    found = output_of(one_notebook(), mixer, u)
    torch.testing.assert_close(found, mixer(u), rtol=1e-5, atol=1e-5)


@every_variant
def test_the_answers_together_are_the_block_in_float64(fields):
    mixer, u = a_mixer_and_a_text(fields, 2, 11)
    settings = {name: getattr(mixer.config, name) for name in ("ngroups", "dt_limit", "norm_before_gate", "norm_eps")}
    expected, _ = oracle.mixer(mixer.state_dict(), u, **settings)
    found = output_of(one_notebook(), mixer.double(), u.double())
    assert largest_difference([found], [expected]) <= 1e-11


def test_the_block_calls_these_answers_and_no_others():
    names, called = one_notebook(), Counter[str]()

    def counted(name, function):
        def call(*args, **kwargs):
            called[name] += 1
            return function(*args, **kwargs)

        return call

    names |= {name: counted(name, names[name]) for name in EXERCISES}
    output_of(names, *a_mixer_and_a_text({}, 1, 6))
    assert set(called) == {name for links in LINKS.values() for name in links}


@every_link
def test_a_wrong_answer_anywhere_in_the_chain_is_noticed(link):
    mixer, u = a_mixer_and_a_text({"ngroups": 2}, 2, 11)
    right = output_of(one_notebook(), mixer, u)
    try:
        found = output_of(one_notebook(replaced=link), mixer, u)
    except (RuntimeError, TypeError):
        return  # shapes that do not fit are noticed too
    assert found.shape != right.shape or not (found - right).abs().max() <= 1e-3
