"""Why a token was chosen is what the filters did."""

from __future__ import annotations

import math

import pytest
import torch
from support.playgrounds import END, SETTINGS, TOKENIZER, playground, press, readable_model, shown

from mamba2_lab.generation import SamplingConfig, explain, stream
from mamba2_lab.text import prompt_ids
from mamba2_lab.widgets.playground.reasons import in_words
from mamba2_lab.widgets.playground.writing import Loaded, Writing


def test_a_chosen_token_shows_its_candidates_and_what_each_filter_removed():
    found = playground(top_k=3, top_p=0.8)
    press(found, "generate")
    found.strips[0].selected = 4
    page = shown(found)
    assert "Token 4." in page and page.count("<img") == 1
    assert "top-k: removed 254 tokens" in page
    found.strips[0].selected = None
    assert "<img" not in shown(found)
    found.strips[0].selected = 11
    found.render()
    assert "Token 11." in shown(found) and found.last_error is None


def test_the_explanation_of_a_token_is_what_the_filters_say():
    model = readable_model()
    writing = Writing(Loaded("own", model, TOKENIZER), "ab", SamplingConfig(**SETTINGS), (), seed=5)
    tokens = list(writing.run(8))
    read = [END, *TOKENIZER.encode("ab"), *(token.id for token in tokens[:7])]
    logits = model(torch.tensor([read]))[0, -1].double().detach()
    for i in set(read):  # the filters once more, by hand, in float64
        logits[i] = logits[i] / 1.3 if logits[i] > 0 else logits[i] * 1.3
    logits /= 1.2
    kept = logits.topk(40).indices.tolist()
    chance = {i: math.exp(float(logits[i] - logits[kept].logsumexp(0))) for i in kept}
    ordered, total, nucleus = sorted(chance, key=chance.get, reverse=True), 0.0, []
    while total < 0.9:
        nucleus.append(ordered[len(nucleus)])
        total += chance[nucleus[-1]]
    final = [i for i in nucleus if chance[i] >= 0.01 * chance[nucleus[0]]]
    mass = sum(chance[i] for i in final)
    found = writing.explanation(7)
    assert found.token == tokens[7].id and found.left[-3:] == (40, len(nucleus), len(final))
    for candidate, probability in zip(found.candidates, found.probabilities[-1], strict=True):
        assert probability == pytest.approx(chance[candidate] / mass if candidate in final else 0.0, abs=1e-5)


def test_the_words_name_the_filters_and_the_numbers():
    writing = Writing(Loaded("own", readable_model(), TOKENIZER), "ab", SamplingConfig(top_k=1), (), seed=5)
    list(writing.run(1))
    found = writing.explanation(0)
    first, second = in_words(found, [writing.name(i) for i in found.candidates])
    name = chr(found.candidates[0])
    assert first.startswith(f"The model gave '{name}' a probability of {100 * found.probabilities[0][0]:.1f} % (")
    assert first.endswith("It was drawn when it alone was left to draw from, with 100.0 %.")
    runners_up = ", ".join(f"'{chr(i)}'" for i in found.candidates[1:6])
    assert (
        second
        == f"top-k: removed 256 tokens that had {100 * found.removed[1]:.1f} % together, among them {runners_up}."
    )


def test_explanations_are_kept_for_the_last_tokens_only(monkeypatch):
    monkeypatch.setattr("mamba2_lab.widgets.playground.writing.EXPLAINED", 5)
    writing = Writing(Loaded("own", readable_model(), TOKENIZER), "ab", SamplingConfig(), (), seed=5)
    tokens = list(writing.run(8))
    assert [writing.explanation(i).token for i in range(3, 8)] == [token.id for token in tokens[3:]]
    for gone in (2, 8):
        with pytest.raises(IndexError, match=rf"token must lie in 3..7, the ones that are explained; got {gone}"):
            writing.explanation(gone)


@pytest.mark.parametrize("room", [2**25, 5 * 257 * 3, 0])
def test_an_explanation_is_made_when_it_is_asked_for_or_its_logits_take_too_much_room(monkeypatch, room: int) -> None:
    made: list[int] = []
    monkeypatch.setattr("mamba2_lab.widgets.playground.writing.ROOM", room)
    monkeypatch.setattr(
        "mamba2_lab.widgets.playground.writing.explain",
        lambda stages, token: made.append(token) or explain(stages, token),
    )
    model, settings = readable_model(), {"top_p": 0.9, "repetition_penalty": 1.3}
    writing = Writing(Loaded("own", model, TOKENIZER), "ab", SamplingConfig(**settings), (), seed=5)
    tokens = [token.id for token in writing.run(8)]
    assert made == tokens[: {0: 8, 5 * 257 * 3: 5}.get(room, 0)]
    again = stream(model, prompt_ids(TOKENIZER, "ab"), max_new_tokens=8, seed=5, **settings)
    expected = [explain(list(again.stages()), token.id) for token in again]
    for _ in range(2):  # once made, it stays
        assert [writing.explanation(i) for i in range(8)] == expected
    assert sorted(made) == sorted(tokens)
