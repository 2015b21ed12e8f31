"""What notebook 08 builds is what `fit` trains with."""

import math

import pytest
import torch
from support.small_models import random_ids, small_model

from mamba2_lab import training
from mamba2_lab.course.exercises.training import (
    adamw,
    clip_gradients,
    joined_loss,
    learning_rate,
    next_token_loss,
    parameter_groups,
)
from mamba2_lab.course.judge import judge
from mamba2_lab.training import TrainingConfig


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_loss_is_that_of_the_package_on_shifted_targets():
    logits, ids = 3 * drawn(2, 7, 11, seed=1), random_ids(2, 7, vocab_size=11)
    torch.testing.assert_close(next_token_loss(logits, ids), training.next_token_loss(logits[:, :-1], ids[:, 1:]))


def test_the_schedule_is_that_of_the_package_at_every_step():
    config = TrainingConfig(steps=90, learning_rate=0.02, warmup_steps=7)
    for step in range(config.steps):
        assert learning_rate(step, 90, 0.02, 7) == pytest.approx(training.learning_rate(step, config), rel=1e-12)


@pytest.mark.parametrize(
    ("done", "told"),
    [
        (lambda step, steps, warmup: (step - warmup) / (steps - warmup), ""),
        (lambda step, steps, warmup: (step - warmup) / (steps - 1 - warmup), ""),  # the end in the last step
        (lambda step, steps, warmup: (step + 1 - warmup) / (steps - warmup), ""),  # and the peak only once
        (lambda step, steps, warmup: (step + 1 - warmup) / (steps + 1 - warmup), ""),
        (lambda step, steps, warmup: (step - warmup) / steps, "as if `warmup` were left out"),  # never at the end
        (lambda step, steps, warmup: step / steps, "The cosine starts at step 0"),
    ],
)
def test_a_schedule_may_reach_its_end_in_the_last_step_or_right_after(done, told):
    def schedule(step, steps, peak, warmup):
        if step < warmup:
            return peak * (step + 1) / warmup
        return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * done(step, steps, warmup))))

    verdict = judge(learning_rate, schedule)
    assert (verdict.status, told in verdict.message) == ("wrong" if told else "passed", True), verdict


def test_the_groups_are_those_of_the_package():
    model = small_model(bias=True)
    groups = parameter_groups(dict(model.named_parameters()), 0.1)
    expected = training.parameter_groups(model, 0.1)
    assert [group["weight_decay"] for group in groups] == [group["weight_decay"] for group in expected]
    for group, wanted in zip(groups, expected, strict=True):
        assert [id(weight) for weight in group["params"]] == [id(weight) for weight in wanted["params"]]


@pytest.mark.parametrize("max_norm", [0.5, 1e3])
def test_clipping_is_that_of_torch(max_norm):
    gradients = [drawn(3, 4, seed=2), drawn(5, seed=3)]
    weights = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(weights, max_norm)
    for weight, clipped in zip(weights, clip_gradients(gradients, max_norm), strict=True):
        torch.testing.assert_close(clipped, weight.grad)


def test_the_update_is_that_of_torch_over_several_steps():
    weight = torch.nn.Parameter(drawn(6, seed=4))
    optimizer = torch.optim.AdamW([weight], lr=0.03, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.2)
    ours, m, v = weight.detach().clone(), torch.zeros(6), torch.zeros(6)
    for step in range(1, 6):
        gradient = drawn(6, seed=10 + step)
        weight.grad = gradient.clone()
        optimizer.step()
        ours, m, v = adamw(ours, gradient, m, v, step, 0.03, 0.2)
        torch.testing.assert_close(ours, weight.detach())


def test_parts_joined_have_the_loss_of_the_whole():
    logits, targets = 3 * drawn(1, 12, 11, seed=5), random_ids(1, 12, vocab_size=11)
    cuts = [slice(0, 2), slice(2, 9), slice(9, 12)]
    means = torch.stack([training.next_token_loss(logits[:, cut], targets[:, cut]) for cut in cuts])
    whole = training.next_token_loss(logits, targets)
    torch.testing.assert_close(joined_loss(means, torch.tensor([2, 7, 3])), whole)
