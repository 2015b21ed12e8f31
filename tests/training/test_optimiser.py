"""Updates against AdamW written out by hand: what is decayed, clipped, and how fast it learns."""

from __future__ import annotations

import math

import pytest
import torch
from support.small_models import small_model
from support.trainings import QUICK, packed, quick_fit, without_time

from mamba2_lab import Mamba2LM
from mamba2_lab.data import PackedTokens
from mamba2_lab.training import (
    TrainingConfig,
    fit,
    learning_rate,
    parameter_groups,
)

NOT_DECAYED = {"dt_bias", "A_log", "D", "init_states"}


@pytest.mark.parametrize(
    "changes",
    [{}, {"tie_embeddings": False, "bias": True}, {"learnable_init_states": True, "conv_bias": False}],
    ids=str,
)
def test_every_weight_is_in_one_group_and_those_that_set_time_scales_are_not_decayed(changes):
    model = small_model(**changes)
    decayed, free = parameter_groups(model, 0.3)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    grouped = [id(p) for group in (decayed, free) for p in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in model.parameters()}
    expected = {id(p) for name, p in model.named_parameters() if name.split(".")[-1] in NOT_DECAYED}
    assert {id(p) for p in free["params"]} == expected
    assert len(expected) == 2 * (3 + changes.get("learnable_init_states", False))


def trained_by_hand(model: Mamba2LM, tokens: PackedTokens, config: TrainingConfig) -> list[tuple]:
    """AdamW with clipping, from the equations of Loshchilov and Hutter (arXiv:1711.05101, algorithm 2)."""
    first, second = config.betas
    named = dict(model.named_parameters())
    m, v = ({name: torch.zeros_like(p) for name, p in named.items()} for _ in range(2))
    records = []
    for step in range(config.steps):
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        batch = tokens.random_batch(config.batch_size, config.length, generator)
        log_p = model(batch.input_ids, document_ids=batch.document_ids).log_softmax(dim=-1)
        loss = -log_p.gather(-1, batch.targets[..., None]).mean()
        gradients = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
        rate = learning_rate(step, config)
        for name, p in named.items():
            g = gradients[name] * min(1.0, config.clip_norm / norm)
            m[name] = first * m[name] + (1 - first) * g
            v[name] = second * v[name] + (1 - second) * g**2
            ahead, scale = m[name] / (1 - first ** (step + 1)), v[name] / (1 - second ** (step + 1))
            decay = 0.0 if name.split(".")[-1] in NOT_DECAYED else config.weight_decay
            with torch.no_grad():
                p -= rate * (decay * p + ahead / (scale.sqrt() + 1e-8))
        records.append((step, loss.item(), rate, norm))
    return records


@pytest.mark.parametrize("clip_norm", [0.5, 1e6], ids=["clipped", "unclipped"])
def test_an_update_is_that_of_adamw_with_clipping_and_decay(clip_norm):
    config = TrainingConfig(**QUICK, clip_norm=clip_norm, weight_decay=0.4, learning_rate=0.02)
    ours, by_hand = small_model().double(), small_model().double()
    expected = trained_by_hand(by_hand, packed(), config)
    records = fit(ours, packed(), config, progress=False)
    for got, wanted in zip(without_time(records), expected, strict=True):
        assert got == pytest.approx(wanted, rel=1e-5)
    for name, weight in by_hand.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name), weight, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("step", "share"),
    [
        (0, 1 / 20),  # never zero: the first step already counts
        (9, 0.5),
        (19, 1.0),
        (20, 1.0),
        (65, 0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2),
        (110, 0.55),  # half of the way down
        (200, 0.1),
        (500, 0.1),
    ],
)
def test_the_learning_rate_rises_in_a_line_and_falls_along_a_cosine_to_a_tenth(step, share):
    config = TrainingConfig(steps=200, warmup_steps=20)
    assert learning_rate(step, config) == pytest.approx(share * config.learning_rate, rel=1e-12)


def test_the_learning_rate_may_fall_to_nothing():
    config = TrainingConfig(steps=200, warmup_steps=20, final_share=0.0)
    assert learning_rate(110, config) == pytest.approx(0.5 * config.learning_rate, rel=1e-12)
    assert learning_rate(199, config) < 1e-4 * config.learning_rate


def test_without_warm_up_the_first_step_has_the_peak_rate():
    assert learning_rate(0, TrainingConfig(steps=10, warmup_steps=0, learning_rate=0.5)) == 0.5
    assert learning_rate(3, TrainingConfig(steps=3, warmup_steps=5, learning_rate=0.5)) == pytest.approx(0.4)


def test_records_tell_the_learning_rate_of_each_step_and_time_that_passes():
    records = quick_fit(small_model(), learning_rate=0.01)
    assert [r.step for r in records] == list(range(6))
    rates = [0.005, 0.01, 0.01, *(0.01 * (0.1 + 0.45 * (1 + math.cos(math.pi * i / 4))) for i in (1, 2, 3))]
    assert [r.learning_rate for r in records] == pytest.approx(rates)
    assert 0 < records[0].seconds <= records[1].seconds <= records[-1].seconds
