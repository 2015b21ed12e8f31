"""Every family writes what reading everything again for each token gives."""

from __future__ import annotations

import pytest
import torch
from support.devices import DEVICE, WIDEST
from support.families import each_family, expected_logits, family_model
from support.small_models import random_ids

from mamba2_lab import MambaLM, stream
from mamba2_lab.generation import SamplingConfig

DRAWN = {"temperature": 1.3, "top_k": 50, "top_p": 0.95, "repetition_penalty": 1.2}
RAGGED = [[7], [1, 2, 3, 4, 5], [250, 9, 30]]


def exact_model(family: str) -> MambaLM:
    return family_model(family).to(WIDEST)


@torch.no_grad()
def recomputed(model: MambaLM, prompt: list[int], count: int) -> list[int]:
    """The likeliest after the float64 oracle has read everything, again for each token: the new ids."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(expected_logits(model, torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


@each_family
def test_a_ragged_batch_writes_greedily_what_the_oracle_finds_likeliest_for_each_prompt(family: str) -> None:
    model, width = exact_model(family), 5
    ids = torch.tensor([[77] * (width - len(prompt)) + prompt for prompt in RAGGED])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in RAGGED])
    written = model.generate(ids, attention_mask=mask, max_new_tokens=6, temperature=0)[:, width:].tolist()
    assert written == [recomputed(model, prompt, 6) for prompt in RAGGED]
    assert len({token for row in written for token in row}) > 5, "a model that repeats itself proves nothing"


@each_family
def test_a_seed_writes_one_text_whether_streamed_in_one_go_or_taken_up_again(family: str) -> None:
    model, prompt = family_model(family), random_ids(6).tolist()
    whole = model.generate(torch.tensor([prompt]), max_new_tokens=11, seed=3, **DRAWN)[0, 6:].tolist()
    tokens = stream(model, prompt, max_new_tokens=2, seed=3, stop=whole[4], **DRAWN)
    made = []
    for more in (0, 5, 4):
        tokens.resume(more, SamplingConfig(**DRAWN), stop=None) if more else None
        made += [token.id for token in tokens]
    assert made == whole
    assert model.generate(torch.tensor([prompt]), max_new_tokens=11, seed=4, **DRAWN)[0, 6:].tolist() != whole


@each_family
def test_a_cache_out_of_a_stream_goes_on_in_another_way_and_into_training(family: str) -> None:
    model, prompt = exact_model(family), random_ids(6).tolist()
    tokens = stream(model, prompt, max_new_tokens=4, seed=0)
    read = prompt + [token.id for token in tokens]
    assert tokens.last_token is not None
    again = stream(model, tokens.last_token, max_new_tokens=4, temperature=0, cache=tokens.cache)
    assert [token.id for token in again] == recomputed(model, read, 4)
    logits, _ = model.prefill(tokens.last_token[None], tokens.cache)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
@each_family
def test_it_writes_under_any_mode_and_what_was_read_there_goes_on_elsewhere(family: str, mode: type) -> None:
    model, prompt = exact_model(family), random_ids(1, 6)
    with mode():
        _, cache = model.prefill(prompt)
        _, cache = model.step(prompt[:, 0], cache)
    logits, _ = model.step(prompt[:, 1], cache)
    logits.sum().backward()
    read = torch.cat([prompt, prompt[:, :2]], 1)
    expected = expected_logits(model, read)[:, -1]
    torch.testing.assert_close(logits.detach().cpu().double(), expected, rtol=1e-4, atol=1e-4)
    assert logits.device.type == DEVICE.type
