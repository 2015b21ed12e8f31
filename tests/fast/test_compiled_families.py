"""`model.compile` of every family: the same numbers, no break; a graph for each kind of layer, or for each length."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from support.families import family_model
from support.small_models import random_ids
from torch._dynamo.utils import counters

WITHOUT_CODE = {"fullgraph": True, "backend": "eager"}  # refuses a break; generates no code
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("family", ["mamba3-siso", "hybrid"])  # which has all mixers
@torch.no_grad()
def test_a_compiled_model_reads_and_steps_to_the_same_numbers(family: str) -> None:
    model, ids = family_model(family), random_ids(2, 9)
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    expected, cache = model.prefill(ids, attention_mask=mask)
    steps = []
    for tokens in ids[:, :2].unbind(1):
        logits, cache = model.step(tokens, cache)
        steps.append(logits)
    model.compile(**WITHOUT_CODE)
    logits, cache = model.prefill(ids, attention_mask=mask)
    torch.testing.assert_close(logits, expected, **CLOSE)
    for tokens, then in zip(ids[:, :2].unbind(1), steps, strict=True):
        logits, cache = model.step(tokens, cache)
        torch.testing.assert_close(logits, then, **CLOSE)
    kinds = len(set(map(model.config.layer, range(model.config.n_layer))))
    graphs = counters["stats"]["unique_graphs"]
    grows = "attention" in model.config.mixer_fields_by_name  # its first step is of one length, its second of any
    assert graphs == kinds + 1 + grows
    model.uncompile()
    torch.testing.assert_close(model(ids), family_model(family)(ids))
    assert counters["stats"]["unique_graphs"] == graphs


def test_a_compiled_model_of_all_mixers_learns_from_the_same_gradients() -> None:
    model, ids = family_model("hybrid"), random_ids(2, 5)
    documents = (torch.arange(5) // 3).expand(2, 5)

    def gradients() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(model(ids, document_ids=documents).square().mean(), list(model.parameters()))

    expected = gradients()
    model.compile(**WITHOUT_CODE)
    for found, exact in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(found, exact, **CLOSE)
