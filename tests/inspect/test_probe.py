"""The linear probe: against least squares by numpy, on data whose answer is known."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from support.oracle.mamba2 import raises
from torch import Tensor

from mamba2_lab.inspect import fit_probe


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whole(high: int, count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, high, (count,), generator=torch.Generator().manual_seed(seed))


DOCUMENTS = torch.arange(40).repeat_interleave(50)  # 40 documents of 50 samples


def test_what_is_there_is_found_and_the_control_has_only_its_frequency() -> None:
    labels = 3 * whole(3, 2000) - 3  # -3, 0, 3: any whole numbers will do
    centres = noise(3, 20, seed=1)
    features = centres[labels // 3 + 1] + 0.05 * noise(2000, 20, seed=2)
    probe = fit_probe(5.0 + 100.0 * features, labels, DOCUMENTS)
    assert probe.accuracy == 1.0 and probe.by_label == {-3: 1.0, 0: 1.0, 3: 1.0}
    assert abs(probe.control - 1 / 3) < 0.15 and abs(probe.majority - 1 / 3) < 0.1
    assert probe.samples == (1500, 500)


def test_what_is_not_there_is_not_found() -> None:
    labels = (whole(10, 2000) < 7).long()
    probe = fit_probe(noise(2000, 20, seed=3), labels, DOCUMENTS)
    for score in (probe.accuracy, probe.control, probe.majority):
        assert abs(score - 0.7) < 4 * math.sqrt(0.7 * 0.3 / 500)
    assert probe.by_label[1] > 0.9 > 0.1 > probe.by_label[0]  # it can only say what is frequent


def test_what_tells_documents_apart_tells_nothing_about_other_documents() -> None:
    """Split by sample, such features would give away every label."""
    of_document = whole(2, 40, seed=4)
    features = torch.nn.functional.one_hot(DOCUMENTS).float()
    assert fit_probe(features, of_document[DOCUMENTS], DOCUMENTS, held_out=0.5).accuracy < 0.7


def guesses_by_numpy(features: Tensor, labels: Tensor, held: Tensor, ridge: float) -> np.ndarray:
    """Ridge regression as least squares with extra rows sqrt(samples ridge) I."""
    x, y = features.double().numpy(), np.eye(3)[labels.numpy()]
    mean, scale = x.mean(0), x.std(0)
    x, held_x = (x - mean) / scale, (held.double().numpy() - mean) / scale
    rows = np.concatenate([x, math.sqrt(len(x) * ridge) * np.eye(x.shape[1])])
    weights = np.linalg.lstsq(rows, np.concatenate([y - y.mean(0), np.zeros((x.shape[1], 3))]), rcond=None)[0]
    return (held_x @ weights + y.mean(0)).argmax(1)


@pytest.mark.parametrize("ridge", [1e-4, 0.5, 100.0])
def test_it_guesses_what_least_squares_guesses(ridge: float) -> None:
    """Hard to tell apart, so that other weights would guess otherwise."""
    documents = torch.tensor([0] * 300 + [1] * 400)
    labels = whole(3, 700)
    features = noise(3, 12, seed=1)[labels] * 0.4 + noise(700, 12, seed=2) * torch.linspace(0.5, 5, 12)
    probe = fit_probe(features, labels, documents, ridge=ridge)
    held = documents == (0 if probe.samples[1] == 300 else 1)
    guesses = guesses_by_numpy(features[~held], labels[~held], features[held], ridge)
    true = labels[held].numpy()
    assert probe.accuracy == pytest.approx((guesses == true).mean(), abs=1e-12)
    for i in range(3):
        assert probe.by_label[i] == pytest.approx((guesses[true == i] == i).mean(), abs=1e-12)
    most = np.bincount(labels[~held].numpy()).argmax()
    assert probe.majority == pytest.approx((true == most).mean(), abs=1e-12)


def test_a_label_that_is_not_among_the_held_out_has_no_score() -> None:
    documents = torch.tensor([0] * 50 + [1] * 50)
    probe = fit_probe(noise(100, 3), documents, documents)
    assert math.isnan(probe.by_label[0]) != math.isnan(probe.by_label[1])
    assert probe.accuracy == 0.0  # a label never seen is never guessed


def test_the_seed_decides_and_nothing_else() -> None:
    labels, features = whole(2, 2000), noise(2000, 5)
    torch.manual_seed(1)
    first = fit_probe(features, labels, DOCUMENTS, seed=7)
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    assert fit_probe(features, labels, DOCUMENTS, seed=7) == first
    assert fit_probe(features, labels, DOCUMENTS, seed=8) != first
    torch.manual_seed(1)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_features_that_never_change_do_no_harm() -> None:
    labels = whole(2, 2000)
    features = torch.stack([labels.float(), torch.zeros(2000), torch.full((2000,), 3.0)], dim=1)
    assert fit_probe(features, labels, DOCUMENTS).accuracy == 1.0


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"features": torch.ones(4)}, ["features must be (samples,f)", "(4,)"]),
        ({"features": torch.ones(4, 2).long()}, ["features must be (samples,f), floating point", "int64"]),
        ({"labels": torch.ones(3).long()}, ["labels must be integers of shape (4,)", "(3,)"]),
        ({"labels": torch.ones(4)}, ["labels must be integers", "float32"]),
        ({"documents": torch.ones(4, 1).long()}, ["documents must be integers of shape (4,)", "(4, 1)"]),
        ({"documents": torch.ones(4).long()}, ["documents must be at least two", "1"]),
        ({"held_out": 1.0}, ["held_out must be above 0 and below 1", "1.0"]),
        ({"ridge": 0.0}, ["ridge must be above 0", "0.0"]),
    ],
    ids=str,
)
def test_errors_name_the_argument(changes: dict[str, Any], parts: list[str]) -> None:
    good = {"features": torch.ones(4, 2), "labels": torch.tensor([0, 1, 0, 1]), "documents": torch.tensor([0, 0, 1, 1])}
    with raises(ValueError, *parts):
        fit_probe(**{**good, **changes})
