"""What a whole model is checked by shows a fault, and what is right is right by another way."""

import numpy as np
import pytest
import torch

from mamba2_lab.generation import sampling
from mamba2_lab.health import whole_model
from mamba2_lab.health.choice import small_model
from mamba2_lab.operation import OPERATIONS, Way


def test_fifty_steps_of_training_lower_the_loss() -> None:
    """Else a comparison of them would show little."""
    losses = whole_model.learn(small_model(), torch.arange(210).reshape(3, 70) % 64)["loss"]
    assert losses.shape == (50,) and losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize(
    ("mixer", "operation"),
    [("Mamba-1", "scan_channels"), ("Mamba-3 in two ranks", "read_in_ranks"), ("attention and MLPs", "attend")],
)
def test_a_way_that_is_off_by_one_percent_is_found_in_its_mixer_and_named(
    monkeypatch: pytest.MonkeyPatch, mixer: str, operation: str
) -> None:
    def wrong(*args: object) -> object:
        found = OPERATIONS[operation].plain(*args)
        return (1.01 * found[0], *found[1:]) if isinstance(found, tuple) else 1.01 * found

    (check,) = (check for check in whole_model.CHECKS if check.what == f"{mixer}, all of it")
    monkeypatch.setattr(OPERATIONS[operation], "ways", [Way("wrong", lambda *args: True, 0.0, wrong)])
    (one,) = check.on(["cpu"])
    assert not one.agrees and one.wrong_ways == (operation,)


def test_the_exact_distribution_is_that_of_its_definition() -> None:
    logits = whole_model.LOGITS.double().numpy() / 0.8
    order = np.argsort(-logits)
    shares = np.zeros(64)
    likeliest = np.exp(logits[order[:20]]) / np.exp(logits[order[:20]]).sum()
    total = 0.0
    for token, share in zip(order[:20], likeliest, strict=True):
        if total < 0.95:
            shares[token], total = share, total + share
    shares /= shares.sum()
    assert 5 < (shares > 0).sum() < 20  # so top-p takes something that top-k left
    np.testing.assert_allclose(whole_model.exact_shares()["shares"].numpy(), shares, rtol=1e-12)


@pytest.mark.parametrize("fault", ["another temperature", "a token that was filtered out", "none"])
def test_draws_from_another_distribution_are_found(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    def wrong(logits: torch.Tensor, config: sampling.SamplingConfig, generator: torch.Generator) -> torch.Tensor:
        if fault == "another temperature":
            config = sampling.SamplingConfig(1.0, config.top_k, config.top_p)
        drawn = sampling.sample(logits, config, generator)
        if fault == "a token that was filtered out":
            drawn[7] = int(whole_model.exact_shares()["shares"].argmin())
        return drawn

    monkeypatch.setattr(whole_model, "sample", wrong)
    (one,) = whole_model.CHECKS[-1].on(["cpu"])
    assert one.what == "20,000 draws"
    assert one.agrees == (fault == "none")
    if fault.startswith("a token"):
        assert one.where == "draws of tokens that were filtered out"
