"""What notebook 09 builds is what the package generates with."""

import math

import pytest
import torch
from support.small_models import random_ids, small_model

from mamba2_lab import generation
from mamba2_lab.course.exercises.generation import (
    keep_min_p,
    keep_top_p,
    penalise,
    read_on,
    release,
    write_greedily,
)
from mamba2_lab.course.judge import judge
from mamba2_lab.generation import loop, sampling
from mamba2_lab.text import ByteTokenizer


def logits_drawn(seed: int, v: int = 40) -> torch.Tensor:
    return 3 * torch.randn(v, generator=torch.Generator().manual_seed(seed)) - 2


@torch.no_grad()
@pytest.mark.parametrize("cuts", [[9], [4, 5], [1] * 9, [2, 1, 6]], ids=str)
def test_reading_on_leaves_what_the_package_leaves(cuts):
    model, ids = small_model(ngroups=2, dt_limit=(0.01, 0.6)), random_ids(2, 9)
    memory = [(layer.conv_window, layer.ssm_state) for layer in model.new_cache(2).layers]
    for piece in ids.split(cuts, dim=1):
        u, after = model.embedding(piece), []
        for block, (window, state) in zip(model.blocks, memory, strict=True):
            y, window, state = read_on(block.norm(u), block.mixer, window, state)
            u = u + y
            after.append((window, state))
        memory = after
    _, cache = model.prefill(ids)
    for layer, (window, state) in zip(cache.layers, memory, strict=True):
        torch.testing.assert_close(window, layer.conv_window, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(state, layer.ssm_state, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_greedy_text_is_that_of_generate():
    model, ids = small_model(), random_ids(1, 6)
    expected = model.generate(ids, max_new_tokens=12, temperature=0)[0, 6:]
    assert write_greedily(model, ids, 12) == expected.tolist()


@torch.no_grad()
def test_no_greedy_case_hangs_on_rounding():
    """The likeliest token leads by far more than float32 is off, so no right answer can fail by bad luck."""
    for case in write_greedily.make_cases():
        model, ids, count = case.args
        text = torch.cat([ids, torch.tensor([write_greedily(model, ids, count)])], dim=1)
        best = model(text)[0, ids.shape[1] - 1 : -1].topk(2).values
        assert (best[:, 0] - best[:, 1]).min() > 1e-3


@pytest.mark.parametrize("seed", range(8))
def test_the_filters_are_those_of_the_package(seed):
    logits, seen = logits_drawn(seed), [3, 7, 7, 21]
    marked = torch.zeros(1, len(logits), dtype=torch.bool)
    marked[0, seen] = True
    for share in (0.05, 0.5, 0.93):
        assert torch.equal(keep_top_p(logits, share), sampling.keep_top_p(logits[None], share)[0])
        assert torch.equal(keep_min_p(logits, share), sampling.keep_min_p(logits[None], share)[0])
    torch.testing.assert_close(penalise(logits, seen, 1.3), sampling.penalise_repetition(logits[None], marked, 1.3)[0])


# Thresholds: every way to write a right comparison passes, and what is off by one token is told why


def as_marks(keep):
    """The filter that keeps what `keep` says of the probabilities in falling order, their sums, and p."""

    def keep_top_p(logits, p):
        ordered, order = logits.sort(descending=True)
        probabilities = ordered.softmax(dim=-1)
        kept = torch.full_like(logits, -math.inf)
        marks = keep(probabilities, probabilities.cumsum(dim=-1), p)
        kept[order[marks]] = ordered[marks]
        return kept

    return keep_top_p


def and_the_first(marks):
    return marks | (torch.arange(len(marks)) == 0)


@pytest.mark.parametrize(
    ("keep", "told"),
    [
        (lambda q, c, p: c - q < p, ""),
        (lambda q, c, p: torch.cat([q.new_zeros(1), c[:-1]]) < p, ""),
        (lambda q, c, p: torch.arange(len(q)) <= int((c < p).sum()), ""),
        (lambda q, c, p: c - q <= p, "exactly p together, one more is kept"),
        (lambda q, c, p: c < p, "nothing is left"),
        (lambda q, c, p: c <= p, "nothing is left"),
        (lambda q, c, p: and_the_first(c < p), "The likeliest token is always kept, as it must be. But"),
        (lambda q, c, p: and_the_first(c <= p), "The likeliest token is always kept, as it must be. But"),
    ],
)
def test_a_sum_that_is_compared_with_p_is_judged_by_its_cause(keep, told):
    verdict = judge(keep_top_p, as_marks(keep))
    assert (verdict.status, told in verdict.message) == ("wrong" if told else "passed", True), verdict


@pytest.mark.parametrize(
    ("removed", "right"),
    [
        (lambda logits, m: logits < logits.max() + math.log(m), True),
        (lambda logits, m: logits - logits.max() < math.log(m), True),
        (lambda logits, m: logits.softmax(-1) < m * logits.softmax(-1).max(), True),
        (lambda logits, m: logits.softmax(-1) / logits.softmax(-1).max() < m, True),
        (lambda logits, m: logits.log_softmax(-1) < logits.log_softmax(-1).max() + math.log(m), True),
        (lambda logits, m: logits <= logits.max() + math.log(m), False),
        (lambda logits, m: logits.softmax(-1) <= m * logits.softmax(-1).max(), False),
        (lambda logits, m: logits.softmax(-1) / logits.softmax(-1).max() <= m, False),
    ],
)
def test_a_token_on_the_floor_of_min_p_stays(removed, right):
    verdict = judge(keep_min_p, lambda logits, min_p: logits.masked_fill(removed(logits, min_p), -math.inf))
    assert verdict.status == ("passed" if right else "wrong"), verdict
    assert right or verdict.message.startswith("A token that is exactly min_p times as probable")


@torch.no_grad()
@pytest.mark.parametrize("stop", ["\n\ndef", "a\n", "\n\n", "aba", "@"])
def test_text_is_released_as_the_package_releases_it(stop, monkeypatch):
    model, tokenizer = small_model(), ByteTokenizer()
    script = iter(b"x = 1\n  \n\n\n\ndea \n\nd abab\na\n\ndefg")
    monkeypatch.setattr(loop, "sample", lambda *given: torch.tensor([next(script)]))  # the words of the model
    expected = list(generation.stream(model, [65], max_new_tokens=36, stop=stop, tokenizer=tokenizer))
    pending, shown = "", []
    for token in expected:
        show, pending, over = release(pending + chr(token.id), stop)
        shown.append(show)
    if not over:
        shown[-1] += pending  # nothing is coming any more
    assert shown == [token.text for token in expected]
