"""What `stages` and `explain` tell is what the filters do: composed by hand, by transformers, and counted on paper."""

from __future__ import annotations

import math

import pytest
import torch
from support.small_models import random_ids, small_model

from mamba2_lab import stream
from mamba2_lab.generation import SamplingConfig, explain, sample, stages

QUARTERS = torch.tensor([[1 / 16, 1 / 2, 1 / 8, 1 / 4, 1 / 16]]).log()


def told(logits: torch.Tensor, seen: torch.Tensor | None = None, **settings) -> dict[str, list[float]]:
    """Name of the stage -> the probabilities after it."""
    return {
        name: left.double().softmax(dim=-1)[0].tolist()
        for name, left in stages(logits, SamplingConfig(**settings), seen)
    }


def near(*values: float):
    return pytest.approx(list(values), abs=1e-6)


def test_the_stages_of_a_small_distribution_worked_out_on_paper():
    found = told(QUARTERS, temperature=0.5, top_k=3, top_p=0.9, min_p=0.1)
    assert list(found) == ["model", "temperature", "top_k", "top_p", "min_p"]
    assert found["model"] == near(1 / 16, 1 / 2, 1 / 8, 1 / 4, 1 / 16)
    squares = [1 / 256, 1 / 4, 1 / 64, 1 / 16, 1 / 256]  # temperature 1/2 squares the odds
    assert found["temperature"] == near(*[s / sum(squares) for s in squares])
    assert found["top_k"] == near(0, 16 / 21, 1 / 21, 4 / 21, 0)
    assert found["top_p"] == near(0, 4 / 5, 0, 1 / 5, 0)  # 20/21 reaches 0.9
    assert found["min_p"] == near(0, 4 / 5, 0, 1 / 5, 0)  # 1/4 of the likeliest is more than a tenth


def test_the_penalty_comes_first_and_looks_at_what_was_seen():
    logits, seen = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([[True, True, False]])
    rows = dict(stages(logits, SamplingConfig(repetition_penalty=2.0), seen))
    assert rows["repetition_penalty"].tolist() == [[1.0, -2.0, 0.5]]
    assert list(rows) == ["model", "repetition_penalty"]
    assert list(told(logits, repetition_penalty=2.0)) == ["model"], "nothing was seen"


def test_greedy_keeps_one_token_at_its_temperature():
    found = told(QUARTERS, temperature=0, top_k=3)
    assert list(found) == ["model", "temperature"]
    assert found["temperature"] == [0, 1, 0, 0, 0]


def test_the_last_stage_is_what_transformers_draws_from():
    transformers = pytest.importorskip("transformers")
    logits, ids = 1.5 * torch.randn(1, 300), random_ids(1, 40, vocab_size=300)
    chain = transformers.LogitsProcessorList(
        [
            transformers.RepetitionPenaltyLogitsProcessor(1.3),
            transformers.TemperatureLogitsWarper(0.8),
            transformers.TopKLogitsWarper(60),
            transformers.TopPLogitsWarper(0.9),
            transformers.MinPLogitsWarper(0.02),
        ]
    )
    theirs = chain(ids, logits.clone()).softmax(dim=-1)[0].tolist()
    seen = torch.zeros(1, 300, dtype=torch.bool).scatter(1, ids, True)
    settings = {"repetition_penalty": 1.3, "temperature": 0.8, "top_k": 60, "top_p": 0.9, "min_p": 0.02}
    ours = told(logits, seen, **settings)
    assert ours["min_p"] == pytest.approx(theirs, abs=1e-6)
    left = [sum(p > 0 for p in row) for row in ours.values()]
    assert len(set(left)) >= 3 and left[-1] >= 5, "filters that remove nothing, or leave nothing, prove nothing"


def test_what_is_drawn_has_a_chance_in_the_last_stage_and_all_of_it_comes():
    settings = SamplingConfig(temperature=1.5, top_k=3)
    drawn = sample(QUARTERS.expand(500, -1), settings, torch.Generator().manual_seed(0))
    *_, (_, last) = stages(QUARTERS, settings)
    assert set(drawn.tolist()) == set((last[0] > -math.inf).nonzero().flatten().tolist())


def test_an_explanation_follows_the_candidates_and_counts_what_each_filter_took():
    found = explain(stages(QUARTERS, SamplingConfig(top_k=3, top_p=0.7)), token=3)
    assert (found.token, found.stages) == (3, ("model", "top_k", "top_p"))
    assert found.logprob == pytest.approx(math.log(1 / 4), abs=1e-6)
    assert found.candidates[:3] == (1, 3, 2)
    assert set(found.candidates) == set(range(5))
    assert [list(row)[:3] for row in found.probabilities] == [
        near(1 / 2, 1 / 4, 1 / 8),
        near(4 / 7, 2 / 7, 1 / 7),
        near(2 / 3, 1 / 3, 0),
    ]
    assert found.left == (5, 3, 2)
    assert list(found.removed) == near(0, 1 / 8, 1 / 7)  # of what there was before the filter


def test_a_token_beyond_the_likeliest_takes_the_last_place_among_the_candidates():
    found = explain(stages(QUARTERS, SamplingConfig()), token=4, most=3)
    assert found.candidates == (1, 3, 4)
    assert found.probabilities[0][2] == pytest.approx(1 / 16, abs=1e-6)


def test_an_explanation_is_of_one_row():
    with pytest.raises(ValueError, match="steps must be those of one row"):
        explain(stages(QUARTERS.expand(2, -1), SamplingConfig(top_k=2)), token=0)


def test_a_stream_tells_the_stages_of_its_last_token():
    model, prompt = small_model(), random_ids(5).tolist()
    tokens = stream(model, prompt, max_new_tokens=12, seed=3, temperature=0.9, top_k=20, repetition_penalty=1.8)
    with pytest.raises(ValueError, match="a token must have come before"):
        list(tokens.stages())
    read = list(prompt)
    for token in tokens:
        logits = model(torch.tensor([read]))[:, -1].detach()
        seen = torch.zeros(1, 257, dtype=torch.bool)
        seen[0, read] = True  # the new token was not seen when it was drawn
        expected = stages(logits, SamplingConfig(0.9, 20, repetition_penalty=1.8), seen)
        for (name, left), (expected_name, expected_left) in zip(tokens.stages(), expected, strict=True):
            assert name == expected_name
            torch.testing.assert_close(left.softmax(-1), expected_left.softmax(-1), atol=1e-5, rtol=1e-4)
        assert explain(tokens.stages(), token.id).logprob == pytest.approx(token.logprob, abs=1e-5)
        read.append(token.id)
