"""A linear probe: can something be read off a state by a weighted sum?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.checks import require, require_number, require_whole


@dataclass(frozen=True)
class Probe:
    """How a linear probe did on documents that it was not fitted on. Each score is in 0..1.

    accuracy: the part of the held-out samples that it labels rightly.
    control: the same of a probe fitted on shuffled labels: what it can have without any help from the features.
    majority: the same of always giving the label most frequent among the samples fitted on.
    by_label: for each label, the part of its held-out samples that it labels rightly; NaN for one that does not occur
        there.
    samples: how many were fitted on, how many held out.
    """

    accuracy: float
    control: float
    majority: float
    by_label: dict[int, float]
    samples: tuple[int, int]


def fit_probe(
    features: Tensor, labels: Tensor, documents: Tensor, *, held_out: float = 0.25, ridge: float = 1e-2, seed: int = 0
) -> Probe:
    """Fit a linear classifier to some documents and score it on the others.

    For each label a weighted sum of the features, fitted by ridge regression to 1 where the label holds and 0 where it
    does not; the largest sum wins. Features are first brought to mean 0 and variance 1 over the samples fitted on. The
    split is by document: neighbouring tokens are alike, and one of them among the held out would be no test.

    Args:
        features: (samples,f). labels: (samples,) integers. documents: (samples,) integers, whose the samples are.
        held_out: the part of the documents to score on; at least one is.
        ridge: added to the features' covariance, whose diagonal is 1.
        seed: of the choice of documents and of the shuffle.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    _check(features, labels, documents, held_out, ridge)
    require_whole("seed", seed)
    generator = torch.Generator().manual_seed(seed)
    test = _held_out(documents, held_out, generator)
    values, classes = labels.unique(return_inverse=True)
    fitted, held = features[~test].double(), features[test].double()
    mean, scale = fitted.mean(dim=0), fitted.std(dim=0, correction=0).clamp(min=1e-12)
    fitted, held = (fitted - mean) / scale, (held - mean) / scale
    true, known = classes[test], classes[~test]
    shuffled = known[torch.randperm(len(known), generator=generator)]
    one_hot = torch.cat([F.one_hot(each, len(values)).double() for each in (known, shuffled)], dim=1)
    guessed, control = (sums.argmax(dim=1) for sums in _regress(fitted, one_hot, ridge, held).chunk(2, dim=1))
    return Probe(
        accuracy=_score(guessed, true),
        control=_score(control, true),
        majority=_score(known.mode().values.expand_as(true), true),
        by_label={int(value): _score(guessed[true == i], true[true == i]) for i, value in enumerate(values)},
        samples=(len(known), len(true)),
    )


def _held_out(documents: Tensor, part: float, generator: torch.Generator) -> Tensor:
    """(samples,) bool: True for the samples of the documents drawn to be held out."""
    names = documents.unique()
    require(len(names) >= 2, "documents", "at least two, one to fit on and one to score on", len(names))
    count = min(max(1, round(part * len(names))), len(names) - 1)
    return torch.isin(documents, names[torch.randperm(len(names), generator=generator)[:count]])


def _regress(features: Tensor, targets: Tensor, ridge: float, held: Tensor) -> Tensor:
    """Ridge regression in closed form, with an intercept, applied to the held-out features."""
    centre = targets.mean(dim=0)
    covariance = features.mT @ features / len(features) + ridge * torch.eye(features.shape[1], dtype=features.dtype)
    towards = features.mT @ (targets - centre) / len(features)
    weights = torch.cholesky_solve(towards, torch.linalg.cholesky(covariance))
    return held @ weights + centre


def _score(guessed: Tensor, true: Tensor) -> float:
    return float((guessed == true).double().mean())


def _check(features: Tensor, labels: Tensor, documents: Tensor, held_out: float, ridge: float) -> None:
    if features.ndim != 2 or not features.is_floating_point():
        raise ValueError(f"features must be (samples,f), floating point; got {tuple(features.shape)}, {features.dtype}")
    for name, given in (("labels", labels), ("documents", documents)):
        if given.is_floating_point() or given.shape != features.shape[:1]:
            raise ValueError(
                f"{name} must be integers of shape ({len(features)},), one per sample; "
                f"got {tuple(given.shape)}, {given.dtype}"
            )
    require_number("held_out", held_out)
    require(0 < held_out < 1, "held_out", "above 0 and below 1", held_out)
    require_number("ridge", ridge)
    require(ridge > 0, "ridge", "above 0", ridge)
