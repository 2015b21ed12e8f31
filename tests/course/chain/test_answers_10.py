"""What notebook 10 asks for is what the package's own pieces are made of."""

import math

import pytest
import torch
from support.small_models import random_ids, small_model

from mamba2_lab import inspect
from mamba2_lab.course.exercises.watching_memory import half_life_here, overlap, resampled, shares, through_silu


@pytest.fixture(scope="module")
def trace() -> inspect.Trace:
    return inspect.trace(small_model(ngroups=2), random_ids(1, 12)[0])


def test_the_half_life_on_a_text_is_that_of_the_trace(trace):
    for layer in trace.layers:
        torch.testing.assert_close(half_life_here(layer.log_decay), layer.half_life)


@torch.no_grad()
def test_what_is_predicted_for_an_injected_pair_is_what_the_model_reads():
    """Of a model that goes on from a cache: the difference in what a head reads, with the pair and without."""
    model, ids = small_model(ngroups=2), random_ids(1, 12)[0]
    _, cache = model.prefill(ids[None, :5])
    key, value = torch.randn(model.config.d_state), torch.randn(model.config.headdim)
    last = model.config.n_layer - 1
    for layer, head in ((0, 1), (last, model.config.nheads - 1)):
        with_pair = inspect.inject(cache, layer, head, key, value)
        plain, changed = (inspect.trace(model, ids[5:], each).layers[layer] for each in (cache, with_pair))
        group = head // (model.config.nheads // model.config.ngroups)
        expected = overlap(plain.log_decay[:, head], plain.C[:, group], key)
        assert expected.abs().max() > 0.1, "nothing would be tested"
        torch.testing.assert_close((changed.y - plain.y)[:, head], expected[:, None] * value, rtol=1e-4, atol=1e-5)


def test_the_parts_of_x_are_those_of_the_trace(trace):
    layer, head, t = trace.layers[1], 2, 7
    w, p = len(layer.taps), layer.x.shape[2]
    channels = slice(head * p, (head + 1) * p)
    parts = through_silu(layer.xBC[t - w + 1 : t + 1, channels], layer.taps[:, channels], layer.conv_bias[channels])
    *own_first, bias = layer.x_parts(head)[:, t]
    torch.testing.assert_close(parts, torch.stack([*reversed(own_first), bias]))


def test_shares_of_contributions_add_up_to_the_whole(trace):
    layer, head, target = trace.layers[0], 1, 9
    made = layer.contributions(head, target)
    whole = layer.y[target, head] + layer.skipped[target, head]
    parts = torch.cat([made.tokens, torch.stack([made.before, made.bias, made.initial])])
    assert float(shares(parts, whole).sum()) == pytest.approx(1.0, abs=1e-4)


def test_the_interval_of_a_mean_is_that_of_the_textbook():
    """For files of equal size the spread over the draws is the standard error of a mean of means."""
    f, generator = 40, torch.Generator().manual_seed(0)
    means = torch.randn(f, generator=generator, dtype=torch.float64)
    counts = torch.full((f,), 25)
    picks = torch.randint(f, (20000, f), generator=generator)
    drawn = resampled(25 * means, counts, picks)
    assert float(drawn.std()) == pytest.approx(float(means.std(correction=0)) / math.sqrt(f), rel=0.03)
    assert float(drawn.mean()) == pytest.approx(float(means.mean()), abs=0.01)
