"""How far back a token is heard: against finite differences of the float64 model, and sums written out."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from support.oracle import mamba2 as oracle
from support.oracle.mamba2 import raises, relative_error
from support.small_models import random_ids, small_model
from torch import Tensor

from mamba2_lab import Mamba2LM
from mamba2_lab.inspect import gradient_reach, mean_by_distance

IDS = torch.tensor([5, 3, 9, 2, 7, 11])  # each token once, so that its row of the embedding is its own
STEP = 1e-5


def log_probability(weights: dict[str, Tensor], target: int) -> float:
    logits, _ = oracle.language_model(weights, IDS[None, : target + 1], vocab_size=13, ngroups=2)
    return float(logits[0, -1].log_softmax(dim=-1)[IDS[target + 1]])


def gradient_by_differences(model: Mamba2LM, source: int, target: int) -> Tensor:
    """d log p(token after target) / d embedding of the source, entry by entry."""
    gradient = torch.zeros(model.config.d_model, dtype=torch.float64)
    for i in range(model.config.d_model):
        ends = []
        for step in (STEP, -STEP):
            weights = {name: weight.clone() for name, weight in model.state_dict().items()}
            weights["embedding.weight"][IDS[source], i] += step
            ends.append(log_probability(weights, target))
        gradient[i] = (ends[0] - ends[1]) / (2 * STEP)
    return gradient


def test_the_reach_is_the_length_of_the_gradient_of_the_float64_model() -> None:
    model = small_model(vocab_size=13, d_model=8, ngroups=2, tie_embeddings=False).cpu().double()
    targets = [0, 3, 4]
    found = gradient_reach(model, IDS, targets)
    assert found.shape == (3, 6)
    for row, target in zip(found, targets, strict=True):
        for source in range(6):
            if source > target:
                assert row[source] == 0
            else:
                expected = gradient_by_differences(model, source, target).norm()
                assert relative_error(row[source], expected) <= 1e-7


def test_it_leaves_the_model_as_it_was() -> None:
    model = small_model()
    with torch.no_grad():  # as notebooks have it
        first = gradient_reach(model, random_ids(9), [7])
    assert not first.requires_grad and first.dtype == torch.float32 and first.count_nonzero() == 8
    assert all(parameter.grad is None for parameter in model.parameters())
    frozen = small_model().requires_grad_(False)
    assert torch.equal(gradient_reach(frozen, random_ids(1, 9), torch.tensor([7])), first)
    assert not frozen(random_ids(1, 9)).requires_grad  # the hook is gone
    assert gradient_reach(model, random_ids(9), []).shape == (0, 9)


@given(l=st.integers(1, 12), seed=st.integers(0, 1000), targets=st.lists(st.integers(0, 11), max_size=9))
def test_means_are_over_the_pairs_at_each_distance(l: int, seed: int, targets: list[int]) -> None:
    targets = [target % l for target in targets]
    rows = torch.rand(len(targets), l, generator=torch.Generator().manual_seed(seed))
    found = mean_by_distance(rows, targets)
    assert found.shape == (l,)
    for distance in range(l):
        pairs = [float(rows[i, t - distance]) for i, t in enumerate(targets) if t >= distance]
        if pairs:
            assert abs(float(found[distance]) - sum(pairs) / len(pairs)) <= 1e-6
        else:
            assert math.isnan(found[distance])


def test_errors_name_the_argument() -> None:
    model = small_model()
    with raises(ValueError, "targets must lie in 0..4", "5"):  # nothing is known of what follows the last token
        gradient_reach(model, random_ids(6), [5])
    with raises(ValueError, "input_ids must be one sequence"):
        gradient_reach(model, random_ids(2, 6), [1])
    with raises(ValueError, "input_ids must lie in 0..256", "300"):
        gradient_reach(model, [1, 300], [0])
    with raises(ValueError, "rows must have shape (t,l), t = 1", "(2, 3)"):
        mean_by_distance(torch.ones(2, 3), [1])
    with raises(ValueError, "targets must lie in 0..2", "3"):
        mean_by_distance(torch.ones(1, 3), [3])
