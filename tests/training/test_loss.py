"""The loss and its gradients, and bits per byte, each held against what is written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from support.small_models import random_ids, small_model
from support.trainings import TEXTS, TOKENIZER, documents, packed, weights_of
from torch import Tensor

from mamba2_lab import Mamba2LM, scan
from mamba2_lab.data import Document
from mamba2_lab.training import (
    bits_per_byte,
    next_token_loss,
)


def test_the_loss_is_cross_entropy_in_nats_per_token():
    logits = torch.tensor([[[0.0, math.log(3.0)], [0.0, 0.0]]])
    assert float(next_token_loss(logits, torch.tensor([[1, 0]]))) == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)


def test_documents_in_one_window_do_not_see_each_other():
    model, tokens = small_model().double(), packed()
    batch = tokens.windows(torch.tensor([0]), len(tokens) - 1)
    together = next_token_loss(model(batch.input_ids, document_ids=batch.document_ids), batch.targets)

    alone: Tensor | float = 0.0
    for i in range(len(TEXTS)):
        mine = batch.document_ids[0] == i
        logits = model(batch.input_ids[:, mine])
        alone = alone + F.cross_entropy(logits[0], batch.targets[0, mine], reduction="sum") / (len(tokens) - 1)

    torch.testing.assert_close(together, alone)
    parameters = dict(model.named_parameters())
    ours = torch.autograd.grad(together, list(parameters.values()))
    expected = torch.autograd.grad(alone, list(parameters.values()))
    for name, got, wanted in zip(parameters, ours, expected, strict=True):
        torch.testing.assert_close(got, wanted, msg=lambda message, name=name: f"{name}: {message}")
    leaking = next_token_loss(model(batch.input_ids), batch.targets).item()
    assert abs(leaking - together.item()) > 1e-3, "the texts must be such that a leak shows"


# Gradients


def loss_of(model: Mamba2LM) -> Tensor:
    """On a window that ends amid a chunk, with a document's end inside a chunk."""
    ids = random_ids(1, 14, vocab_size=model.config.vocab_size)
    document_ids = torch.tensor([[0] * 6 + [1] * 7])
    return next_token_loss(model(ids[:, :-1], document_ids=document_ids), ids[:, 1:])


def gradients_of(model: Mamba2LM) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    return dict(zip(parameters, torch.autograd.grad(loss_of(model), list(parameters.values())), strict=True))


GRADIENT_MODELS: list[dict] = [
    {},
    {"ngroups": 2, "norm_before_gate": True, "bias": True, "tie_embeddings": False},
    {"dt_limit": (0.01, 0.05), "conv_bias": False},
]


@pytest.mark.parametrize("fields", GRADIENT_MODELS, ids=str)
def test_the_gradient_of_every_parameter_is_that_of_finite_differences(fields):
    """Along three random directions in each parameter, by central differences of the float64 loss."""
    model = small_model(**fields).double()
    generator = torch.Generator().manual_seed(0)
    gradients = gradients_of(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            for _ in range(3):
                direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                direction *= 1e-5 / direction.norm()
                parameter += direction
                above = loss_of(model).item()
                parameter -= 2 * direction
                below = loss_of(model).item()
                parameter += direction
                slope = (gradients[name] * direction).sum().item()
                assert slope == pytest.approx((above - below) / 2, rel=1e-5, abs=1e-13), name


@pytest.mark.parametrize("fields", GRADIENT_MODELS, ids=str)
def test_gradients_are_those_through_the_sequential_scan(fields, monkeypatch):
    model = small_model(**fields).double()
    gradients = gradients_of(model)
    calls = []

    def one_token_after_another(*arguments, document_ids):
        calls.append(arguments)
        return scan.sequential(*arguments[:-1], document_ids=document_ids)  # the last one is the chunk size

    monkeypatch.setattr(scan, "chunked", one_token_after_another)
    for name, expected in gradients_of(model).items():
        torch.testing.assert_close(
            gradients[name], expected, rtol=1e-9, atol=1e-13, msg=lambda text, n=name: f"{n}: {text}"
        )
    assert len(calls) == model.config.n_layer


# Bits per byte


@torch.no_grad()
def bits_per_byte_by_hand(model: Mamba2LM, texts: list[str]) -> float:
    """Each text whole, by one forward pass: the bits of each of its bytes, added up."""
    bits, size = 0.0, 0
    for text in texts:
        ids = [256, *text.encode("utf-8")]
        probabilities = model(torch.tensor([ids]))[0].softmax(dim=-1).tolist()
        bits += sum(-math.log2(probabilities[i][token]) for i, token in enumerate(ids[1:]))
        size += len(text.encode("utf-8"))
    return bits / size


@pytest.mark.parametrize("segment", [1, 2, 7, 16, 4096])
def test_bits_per_byte_is_what_the_forward_pass_says_whatever_the_segment(segment):
    model = small_model().double()
    measured = bits_per_byte(model, documents(), TOKENIZER, segment=segment)
    assert measured == pytest.approx(bits_per_byte_by_hand(model, TEXTS), rel=1e-9)


def test_a_model_that_knows_nothing_needs_the_logarithm_of_the_vocabulary():
    model = small_model()
    with torch.no_grad():
        model.embedding.weight.zero_()  # the head is tied to it: every logit is 0
    assert bits_per_byte(model, documents(), TOKENIZER) == pytest.approx(math.log2(257), rel=1e-6)


def test_measuring_changes_neither_the_model_nor_its_mode():
    model = small_model().train()
    before = weights_of(model)
    bits_per_byte(model, documents(), TOKENIZER)
    assert model.training
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "documents must hold at least one document; got none"),
        (["", ""], "documents must hold text; got only empty ones"),
    ],
)
def test_bits_per_byte_of_nothing_is_refused(texts, message):
    with pytest.raises(ValueError, match=message):
        bits_per_byte(small_model(), documents(texts), TOKENIZER)


def test_a_document_that_cannot_be_measured_is_named():
    unfit = Document("halves.py", "\ud800")
    with pytest.raises(ValueError, match="halves.py: "):
        bits_per_byte(small_model(), [*documents(["ab"]), unfit], TOKENIZER)
