"""The language model: against transformers and a float64 model, on every path by which tokens can be read."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.devices import DEVICE, EXACT, WIDEST
from support.oracle import mamba2 as oracle
from support.oracle.mamba2 import largest_difference, perturb, raises, relative_error
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mamba2_lab import LayerState, Mamba2Cache, Mamba2Config, Mamba2LM
from mamba2_lab.model import network as model_module
from mamba2_lab.model.network import one_token
from mamba2_lab.scan.chunks import CHUNKS_PER_STRETCH

SMALL = {"d_model": 16, "n_layer": 2, "vocab_size": 37, "d_state": 8, "headdim": 4, "chunk_size": 8}
LIMIT = (0.1, 0.5)
SHARED = {  # what transformers has too
    "plain": {},
    "two groups": {"ngroups": 2},
    "four groups": {"ngroups": 4},
    "biases": {"bias": True},
    "no convolution bias": {"conv_bias": False},
    "untied": {"tie_embeddings": False, "pad_vocab_size_multiple": 16},
    "odd sizes": {"d_model": 21, "expand": 3, "headdim": 9, "d_state": 7, "ngroups": 7, "d_conv": 3, "chunk_size": 11},
    "wide": {"d_model": 64, "headdim": 16, "d_state": 32, "ngroups": 2, "n_layer": 3, "chunk_size": 64},
    "everything": {"ngroups": 2, "bias": True, "d_conv": 2, "tie_embeddings": False, "norm_eps": 1e-3},
}
OURS = {
    "norm before gate": {"norm_before_gate": True},
    "learned initial states": {"learnable_init_states": True, "ngroups": 2},
    "dt_limit": {"dt_limit": LIMIT},
    "convolution of width 1": {"d_conv": 1},
}
ALL = {**SHARED, **OURS}


def over(variants: dict[str, dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("fields", variants.values(), ids=variants.keys())


def make_model(fields: dict[str, Any], dtype: torch.dtype = torch.float32) -> Mamba2LM:
    """A model whose weights are nowhere trivial, and whose logits are of the order of 1."""
    return perturb(Mamba2LM(**{**SMALL, **fields}, seed=0), size=0.5).to(dtype).to(DEVICE).eval()


def tokens_for(model: Mamba2LM, b: int, l: int) -> Tensor:
    return torch.randint(0, model.config.vocab_size, (b, l))


def expected_of(
    model: Mamba2LM, input_ids: Tensor, before: Mamba2Cache | None = None
) -> tuple[Tensor, list[oracle.Memory]]:
    """Logits at every position, and memories, from the float64 model."""
    config = model.config
    settings = {
        name: getattr(config, name) for name in ("vocab_size", "ngroups", "dt_limit", "norm_before_gate", "norm_eps")
    }
    memories = before and [oracle.Memory(layer.conv_window, layer.ssm_state) for layer in before.layers]
    return oracle.language_model(model.state_dict(), input_ids, before=memories, **settings)


def row_of(cache: Mamba2Cache, row: int) -> Mamba2Cache:
    return cache.map(lambda tensor: tensor[row : row + 1])


def flat(cache: Mamba2Cache | list[oracle.Memory]) -> Iterator[Tensor]:
    if isinstance(cache, Mamba2Cache):
        for layer in cache.layers:
            yield from (layer.conv_window, layer.ssm_state)
    else:
        for memory in cache:
            yield from memory


def by_steps(model: Mamba2LM, input_ids: Tensor, cache: Mamba2Cache) -> tuple[Tensor, Mamba2Cache]:
    """Logits at every position, one token at a time."""
    all_logits = []
    for tokens in input_ids.unbind(1):
        logits, cache = model.step(tokens, cache)
        all_logits.append(logits)
    return torch.stack(all_logits, dim=1), cache


# Against transformers and the float64 model


@over({**SHARED, "dt_limit": {"dt_limit": LIMIT}, "dt_limit, groups": {"dt_limit": (0.0, 0.05), "ngroups": 4}})
@pytest.mark.parametrize("l", [1, 3, 8, 70])
@torch.no_grad()
def test_logits_equal_those_of_transformers(fields: dict[str, Any], l: int) -> None:
    model = make_model(fields)
    theirs = model.to_transformers().cpu()
    input_ids = tokens_for(model, 3, l)
    expected = theirs(input_ids).logits
    assert largest_difference([model(input_ids)], [expected]) <= 1e-5


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Any shape that transformers can have, odd ones first of all."""
    headdim, ngroups, expand = draw(st.integers(8, 17)), draw(st.sampled_from([1, 2, 4])), draw(st.integers(1, 3))
    return {
        "d_model": headdim * ngroups * draw(st.integers(1, 2)),
        "expand": expand,
        "headdim": headdim,
        "ngroups": ngroups,
        "n_layer": draw(st.integers(1, 3)),
        "d_state": draw(st.integers(1, 20)),
        "d_conv": draw(st.integers(1, 5)),
        "chunk_size": draw(st.integers(1, 40)),
        "vocab_size": draw(st.integers(2, 50)),
        "pad_vocab_size_multiple": draw(st.sampled_from([1, 8, 16])),
        "bias": draw(st.booleans()),
        "conv_bias": draw(st.booleans()),
        "tie_embeddings": draw(st.booleans()),
        "dt_limit": draw(st.sampled_from([(0.0, math.inf), LIMIT])),
    }


@given(configs(), st.integers(1, 50))
@torch.no_grad()
def test_logits_of_any_config_equal_those_of_transformers(fields: dict[str, Any], l: int) -> None:
    model = make_model(fields)
    input_ids = tokens_for(model, 2, l)
    expected = model.to_transformers().cpu()(input_ids).logits
    assert largest_difference([model(input_ids)], [expected]) <= 1e-5


@over(SHARED)
@pytest.mark.parametrize("prompt", [1, 2, 9])
@torch.no_grad()
def test_cached_decoding_equals_that_of_transformers(fields: dict[str, Any], prompt: int) -> None:
    model = make_model(fields)
    theirs = model.to_transformers().cpu()
    input_ids = tokens_for(model, 2, prompt + 12)
    expected = theirs(input_ids[:, :prompt], use_cache=True)
    logits, cache = model.prefill(input_ids[:, :prompt])
    for t in range(prompt, prompt + 12):
        assert largest_difference([logits], [expected.logits[:, -1]]) <= 1e-5, t
        expected = theirs(input_ids[:, t : t + 1], cache_params=expected.cache_params, use_cache=True)
        logits, cache = model.step(input_ids[:, t], cache)


@over({name: fields for name, fields in SHARED.items() if not fields.get("bias")})  # with biases its padding leaks
@torch.no_grad()
def test_left_padding_equals_that_of_transformers(fields: dict[str, Any]) -> None:
    model = make_model(fields)
    theirs = model.to_transformers().cpu()
    input_ids = tokens_for(model, 4, 20)
    mask = torch.arange(20) >= torch.tensor([[0], [1], [11], [19]])
    expected = theirs(input_ids, attention_mask=mask.long()).logits
    found = model(input_ids, attention_mask=mask)
    assert largest_difference([found[mask]], [expected[mask]]) <= 1e-5
    last, _ = model.prefill(input_ids, attention_mask=mask.long())
    assert largest_difference([last], [expected[:, -1]]) <= 1e-5


@over({"dt_limit": {"dt_limit": LIMIT}, "everything": {**SHARED["everything"], "dt_limit": LIMIT}})
@torch.no_grad()
def test_decoding_honours_dt_limit_as_the_forward_pass_of_transformers_does(fields: dict[str, Any]) -> None:
    """transformers itself clamps when it reads a prompt, and not when it decodes."""
    model = make_model(fields)
    input_ids = tokens_for(model, 2, 20)
    expected = model.to_transformers().cpu()(input_ids).logits
    found, _ = by_steps(model, input_ids, model.new_cache(2))
    assert largest_difference([found], [expected]) <= 1e-5
    free = make_model({**fields, "dt_limit": (0.0, math.inf)})
    assert largest_difference([free(input_ids)], [expected]) > 0.1  # so the limit is felt


@over(ALL)
@torch.no_grad()
def test_every_path_equals_the_float64_model(fields: dict[str, Any]) -> None:
    model = make_model(fields, WIDEST)
    input_ids = tokens_for(model, 2, 19)
    expected, memories = expected_of(model, input_ids)
    assert largest_difference([model(input_ids)], [expected]) <= EXACT
    last, cache = model.prefill(input_ids)
    assert largest_difference([last, *flat(cache)], [expected[:, -1], *flat(memories)]) <= EXACT
    every, cache = model.prefill(input_ids, all_positions=True)
    assert largest_difference([every, *flat(cache)], [expected, *flat(memories)]) <= EXACT
    stepped, cache = by_steps(model, input_ids, model.new_cache(2))
    assert largest_difference([stepped, *flat(cache)], [expected, *flat(memories)]) <= EXACT


@over(ALL)
@torch.no_grad()
def test_a_prompt_cut_anywhere_and_continued_equals_the_float64_model(fields: dict[str, Any]) -> None:
    """Continued by a second prefill, and by steps."""
    model = make_model(fields, WIDEST)
    input_ids = tokens_for(model, 2, 11)
    expected, memories = expected_of(model, input_ids)
    expected_last = [expected[:, -1], *flat(memories)]
    for cut in range(1, 11):
        last, cache = model.prefill(input_ids[:, :cut])
        assert largest_difference([last], [expected[:, cut - 1]]) <= EXACT, cut
        rest, end = model.prefill(input_ids[:, cut:], cache, all_positions=True)
        assert largest_difference([rest], [expected[:, cut:]]) <= EXACT, cut
        assert largest_difference([rest[:, -1], *flat(end)], expected_last) <= EXACT, cut
        rest, end = by_steps(model, input_ids[:, cut:], cache)
        assert largest_difference([rest], [expected[:, cut:]]) <= EXACT, cut
        assert largest_difference([rest[:, -1], *flat(end)], expected_last) <= EXACT, cut


@over({name: ALL[name] for name in ("plain", "wide", "dt_limit")})
@torch.no_grad()
def test_float32_steps_after_a_prefill_stay_within_rounding_of_the_float64_model(fields: dict[str, Any]) -> None:
    model = make_model(fields)
    input_ids = tokens_for(model, 2, 300)
    expected, memories = expected_of(model, input_ids)
    last, cache = model.prefill(input_ids[:, :100])
    rest, cache = by_steps(model, input_ids[:, 100:], cache)
    assert largest_difference([model(input_ids), last, rest], [expected, expected[:, 99], expected[:, 100:]]) <= 1e-5
    assert max(map(relative_error, flat(cache), flat(memories))) <= 5e-6


# Batches of unequal rows

PROMPT_LENGTHS = [7, 1, 12, 2]


def padded(rows: list[Tensor], side: str) -> tuple[Tensor, Tensor]:
    """Rows of unequal length in one rectangle (padding is any token: here 5), and its mask."""
    longest = max(map(len, rows))
    input_ids = torch.full((len(rows), longest), 5)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        place = slice(longest - len(row), longest) if side == "left" else slice(0, len(row))
        input_ids[i, place] = row
        mask[i, place] = 1
    return input_ids, mask


@over(ALL)
@pytest.mark.parametrize("size", [1, 4, 7, 18])
@torch.no_grad()
def test_a_prompt_read_in_pieces_of_any_size_equals_the_float64_model(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], size: int
) -> None:
    """Rows of any length, padded on either side; and every part of the work is heard of."""
    monkeypatch.setattr(model_module, "tokens_per_piece", lambda *given: size)
    model = make_model(fields, WIDEST)
    prompts = [tokens_for(model, 1, length)[0] for length in (19, 1, 8, 4)]
    for side in ("left", "right"):
        input_ids, mask = padded(prompts, side)
        shares: list[float] = []
        last, cache = model.prefill(input_ids, attention_mask=mask, on_progress=shares.append)
        every, _ = model.prefill(input_ids, attention_mask=mask, all_positions=True)
        parts = -(-19 // size) * model.config.n_layer
        assert shares == [(i + 1) / parts for i in range(parts)]
        for i, prompt in enumerate(prompts):
            expected, memories = expected_of(model, prompt[None])
            assert largest_difference([last[i], *flat(row_of(cache, i))], [expected[0, -1], *flat(memories)]) <= EXACT
            assert largest_difference([every[i, mask[i].bool()]], [expected[0]]) <= EXACT


def test_a_long_prompt_is_read_in_pieces_and_documents_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model({}, WIDEST)
    ids = tokens_for(model, 1, 12)
    documents = torch.arange(12)[None] // 4  # a document begins where a piece would
    whole, cache = model.prefill(ids, document_ids=documents)
    monkeypatch.setattr(model_module, "tokens_per_piece", lambda *given: 4)
    shares: list[float] = []
    cut, after = model.prefill(ids, document_ids=documents, on_progress=shares.append)
    assert shares == [0.5, 1.0]
    assert torch.equal(cut, whole) and all(map(torch.equal, flat(cache), flat(after)))


@pytest.mark.parametrize(("name", "size"), [("medium", 1024), ("130m", 1024), ("1.3b", 256), ("2.7b", 256)])
def test_pieces_are_whole_chunks_and_smaller_for_wide_models(name: str, size: int) -> None:
    assert model_module.tokens_per_piece(Mamba2Config.preset(name)) == size
    assert model_module.tokens_per_piece(Mamba2Config.preset(name, chunk_size=5000)) == 5000
    assert model_module.tokens_per_piece(Mamba2Config.preset(name), "mps") == size
    assert model_module.tokens_per_piece(Mamba2Config.preset(name), "cuda") == 8 * size  # launching is what takes time


@over(ALL)
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_a_batch_of_ragged_prompts_equals_each_prompt_alone(fields: dict[str, Any], side: str) -> None:
    """Logits, what is left behind, and what follows."""
    model = make_model(fields, WIDEST)
    prompts = [tokens_for(model, 1, length)[0] for length in PROMPT_LENGTHS]
    following = tokens_for(model, len(prompts), 5)
    input_ids, mask = padded(prompts, side)
    every = model(input_ids, attention_mask=mask)
    last, cache = model.prefill(input_ids, attention_mask=mask)
    also_every, _ = model.prefill(input_ids, attention_mask=mask, all_positions=True)
    next_logits, end = by_steps(model, following, cache)
    assert cache.tokens_read.tolist() == PROMPT_LENGTHS
    assert end.tokens_read.tolist() == [length + 5 for length in PROMPT_LENGTHS]
    for i, prompt in enumerate(prompts):
        expected, memories = expected_of(model, prompt[None])
        own = mask[i].bool()
        assert largest_difference([every[i, own], also_every[i, own]], [expected[0], expected[0]]) <= EXACT
        assert largest_difference([last[i], *flat(row_of(cache, i))], [expected[0, -1], *flat(memories)]) <= EXACT
        expected, memories = expected_of(model, torch.cat([prompt, following[i]])[None])
        assert largest_difference([next_logits[i]], [expected[0, len(prompt) :]]) <= EXACT
        assert largest_difference(flat(row_of(end, i)), flat(memories)) <= EXACT


@torch.no_grad()
def test_what_stands_at_padding_is_never_read() -> None:
    model = make_model({"ngroups": 2})
    input_ids, other = tokens_for(model, 2, 15), tokens_for(model, 2, 15)
    mask = torch.rand(2, 15) < 0.6
    mask[:, 7] = True
    for one, two in zip(
        model.prefill(input_ids, attention_mask=mask),
        model.prefill(torch.where(mask, input_ids, other), attention_mask=mask),
        strict=True,
    ):
        if isinstance(one, Mamba2Cache):
            assert all(map(torch.equal, flat(one), flat(two)))
        else:
            assert torch.equal(one, two)


@given(st.integers(1, 3), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.booleans(), st.data())
@torch.no_grad()
def test_any_masks_over_any_pieces_equal_each_row_alone(
    b: int, pieces: list[int], limited: bool, data: st.DataObject
) -> None:
    """Prompts read in pieces, each with its own padding: left, right, both, and holes."""
    model = make_model({"ngroups": 2, "dt_limit": LIMIT if limited else (0.0, math.inf)}, WIDEST)
    cache = model.new_cache(b)
    alone: list[list[int]] = [[] for _ in range(b)]
    for l in pieces:
        input_ids = torch.tensor([data.draw(st.lists(st.integers(0, 36), min_size=l, max_size=l)) for _ in range(b)])
        real = st.lists(st.booleans(), min_size=l, max_size=l).filter(any)
        mask = torch.tensor([data.draw(real) for _ in range(b)])
        every, _ = model.prefill(input_ids, cache, attention_mask=mask, all_positions=True)
        last, cache = model.prefill(input_ids, cache, attention_mask=mask)
        for i in range(b):
            new = input_ids[i, mask[i]].tolist()
            alone[i] += new
            expected, memories = expected_of(model, torch.tensor([alone[i]]))
            assert largest_difference([every[i, mask[i]]], [expected[0, -len(new) :]]) <= EXACT
            assert largest_difference([last[i], *flat(row_of(cache, i))], [expected[0, -1], *flat(memories)]) <= EXACT
            assert int(cache.tokens_read[i]) == len(alone[i])


@over({name: fields for name, fields in ALL.items() if not fields.get("learnable_init_states")})
@torch.no_grad()
def test_packed_documents_equal_each_document_alone(fields: dict[str, Any]) -> None:
    model = make_model(fields, WIDEST)
    documents = [tokens_for(model, 1, length) for length in (1, 6, 2, 9)]
    input_ids = torch.cat(documents, dim=1)
    ids = torch.repeat_interleave(torch.tensor([0, 8, 0, 3]), torch.tensor([1, 6, 2, 9]))[None]
    expected = [expected_of(model, document) for document in documents]
    every = torch.cat([logits for logits, _ in expected], dim=1)
    assert largest_difference([model(input_ids, document_ids=ids)], [every]) <= EXACT
    last, cache = model.prefill(input_ids, document_ids=ids)
    assert largest_difference([last, *flat(cache)], [every[:, -1], *flat(expected[-1][1])]) <= EXACT


@given(st.integers(1, 14), st.data())
@torch.no_grad()
def test_any_documents_with_any_mask_equal_each_document_alone(l: int, data: st.DataObject) -> None:
    """Ids at padding are arbitrary; so are the places where ids change in the two rows."""
    model = make_model({"ngroups": 2}, WIDEST)
    input_ids = tokens_for(model, 2, l)
    document_ids = torch.tensor([data.draw(st.lists(st.integers(0, 2), min_size=l, max_size=l)) for _ in range(2)])
    mask = torch.tensor([data.draw(st.lists(st.booleans(), min_size=l, max_size=l).filter(any)) for _ in range(2)])
    every, cache = model.prefill(input_ids, attention_mask=mask, document_ids=document_ids, all_positions=True)
    for i in range(2):
        tokens, ids = input_ids[i, mask[i]], document_ids[i, mask[i]]
        lengths = torch.unique_consecutive(ids, return_counts=True)[1].tolist()
        expected = [expected_of(model, part[None]) for part in tokens.split(lengths)]
        logits = torch.cat([part for part, _ in expected], dim=1)
        assert largest_difference([every[i, mask[i]]], [logits[0]]) <= EXACT
        assert largest_difference(flat(row_of(cache, i)), flat(expected[-1][1])) <= EXACT


# Dtypes, vocabulary, sizes


@torch.no_grad()
def test_a_bfloat16_model_keeps_residual_and_states_in_float32() -> None:
    model = make_model(ALL["wide"])
    model.bfloat16().float()  # weights that bfloat16 can hold: what differs then is the computation
    input_ids = tokens_for(model, 2, 300)
    expected, expected_cache = model.prefill(input_ids, all_positions=True)
    model.bfloat16()
    residuals = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, given, result: residuals.append(result[0].dtype))
    logits, cache = model.prefill(input_ids, all_positions=True)
    next_logits, cache_after = model.step(input_ids[:, 0], cache)
    assert residuals == [torch.float32] * 3
    assert logits.dtype == next_logits.dtype == torch.float32
    assert relative_error(logits, expected) <= 3e-2
    for kept in (cache, cache_after):
        assert {layer.ssm_state.dtype for layer in kept.layers} == {torch.float32}
        assert {layer.conv_window.dtype for layer in kept.layers} == {torch.bfloat16}
    assert max(map(relative_error, flat(cache), flat(expected_cache))) <= 3e-2


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@torch.no_grad()
def test_the_padding_of_the_vocabulary_is_never_seen(tied: bool) -> None:
    model = make_model({"vocab_size": 33, "pad_vocab_size_multiple": 16, "tie_embeddings": tied})
    assert model.embedding.weight.shape == model.lm_head.weight.shape == (48, 16)
    input_ids = tokens_for(model, 2, 6)

    def all_logits() -> list[Tensor]:
        every, cache = model.prefill(input_ids, all_positions=True)
        return [model(input_ids), every, model.prefill(input_ids)[0], model.step(input_ids[:, 0], cache)[0]]

    before = all_logits()
    assert [logits.shape[-1] for logits in before] == [33] * 4
    model.lm_head.weight[33:] = model.embedding.weight[33:] = 1e9
    assert all(map(torch.equal, all_logits(), before))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32], ids=str)
@torch.no_grad()
def test_token_ids_may_be_of_any_integer_dtype(dtype: torch.dtype) -> None:
    model = make_model({})
    input_ids = tokens_for(model, 2, 6)
    mask = torch.tensor([[0, 1, 1, 1, 1, 0], [1] * 6])
    expected, cache = model.prefill(input_ids, attention_mask=mask)
    found, _ = model.prefill(input_ids.to(dtype), attention_mask=mask.to(dtype))
    assert torch.equal(found, expected)
    assert torch.equal(model.step(input_ids[:, 0].to(dtype), cache)[0], model.step(input_ids[:, 0], cache)[0])


OFFICIAL_COUNTS = {
    "130m": 128_989_632,
    "370m": 368_346_624,
    "780m": 780_161_280,
    "1.3b": 1_343_757_312,
    "2.7b": 2_702_599_680,
}


@pytest.mark.parametrize(("name", "count"), OFFICIAL_COUNTS.items())
def test_official_presets_have_the_official_number_of_parameters(name: str, count: int) -> None:
    assert Mamba2LM(Mamba2Config.preset(name), device="meta").num_parameters() == count


@pytest.mark.parametrize(("name", "millions"), [("small", 1), ("medium", 8), ("large", 32)])
def test_laptop_presets_have_about_the_size_they_promise(name: str, millions: int) -> None:
    count = Mamba2LM(Mamba2Config.preset(name), device="meta").num_parameters()
    assert abs(count / (millions * 1e6) - 1) <= 0.1


def test_an_untied_head_is_counted() -> None:
    tied, untied = (Mamba2LM(**SMALL, tie_embeddings=tie) for tie in (True, False))
    assert untied.num_parameters() - tied.num_parameters() == tied.embedding.weight.numel()


def test_a_model_without_numbers_still_has_shapes() -> None:
    """On the meta device a large model can be laid out, and its outputs sized, without memory for it."""
    model = Mamba2LM(Mamba2Config.preset("2.7b", n_layer=2), device="meta")
    logits, cache = model.prefill(torch.zeros(1, 5, dtype=torch.long, device="meta"))
    assert logits.shape == (1, 50277)
    assert cache.nbytes == 2 * (3 * (5120 + 2 * 128) + 80 * 64 * 128) * 4


# Initialisation


def test_the_head_is_tied_to_the_embedding_unless_told_otherwise() -> None:
    model = Mamba2LM(**SMALL)
    assert model.lm_head.weight is model.embedding.weight
    model = Mamba2LM(**SMALL, tie_embeddings=False)
    assert not torch.equal(model.lm_head.weight, model.embedding.weight)


def test_embeddings_start_with_a_standard_deviation_of_0_02() -> None:
    weight = Mamba2LM(d_model=256, n_layer=1, vocab_size=1000, headdim=64, seed=0).embedding.weight.detach()
    assert abs(float(weight.std()) / 0.02 - 1) < 0.01
    assert abs(float(weight.mean())) < 2e-4
    assert float((weight.abs() > 0.04).double().mean()) == pytest.approx(0.0455, rel=0.05)  # normal, not uniform


@torch.no_grad()
def test_output_projections_start_smaller_by_the_root_of_the_number_of_layers() -> None:
    one, nine = (Mamba2LM(d_model=64, n_layer=depth, headdim=16, vocab_size=9, seed=0) for depth in (1, 9))
    spread = float(one.blocks[0].mixer.out_proj.weight.detach().std())
    assert spread == pytest.approx(1 / math.sqrt(3 * 128), rel=0.02)  # uniform in +-1/sqrt(fan_in), as nn.Linear
    for block in nine.blocks:
        assert float(block.mixer.out_proj.weight.std()) == pytest.approx(spread / 3, rel=0.03)
        assert float(block.mixer.in_proj.weight.std()) == pytest.approx(1 / math.sqrt(3 * 64), rel=0.03)


def test_projections_start_without_a_bias_and_norms_with_weight_one_and_epsilon_1e_5() -> None:
    model = Mamba2LM(**SMALL, bias=True)
    for block in model.blocks:
        assert block.mixer.in_proj.bias.count_nonzero() == block.mixer.out_proj.bias.count_nonzero() == 0
    norms = [model.norm_f, *(block.norm for block in model.blocks), *(block.mixer.norm for block in model.blocks)]
    for norm in norms:
        assert norm.eps == 1e-5
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))


def weights_of(model: Mamba2LM) -> list[Tensor]:
    return list(model.state_dict().values())


def test_a_seed_gives_the_same_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = Mamba2LM(**SMALL, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second, other = Mamba2LM(**SMALL, seed=3), Mamba2LM(**SMALL, seed=4)
    assert all(map(torch.equal, weights_of(first), weights_of(second)))
    drawn = ("embedding.weight", "layers.1.mixer.dt_bias", "layers.1.mixer.A_log", "layers.1.mixer.in_proj.weight")
    for name in drawn:
        assert not torch.isclose(first.state_dict()[name], other.state_dict()[name]).all(), name


def test_without_a_seed_the_global_generator_decides() -> None:
    models = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        models.append(Mamba2LM(**SMALL))
    assert all(map(torch.equal, weights_of(models[0]), weights_of(models[1])))
    assert not torch.equal(models[0].embedding.weight, models[2].embedding.weight)


def test_layers_do_not_start_alike() -> None:
    first, second = (block.state_dict() for block in Mamba2LM(**SMALL).blocks)
    for name in ("mixer.dt_bias", "mixer.A_log", "mixer.in_proj.weight", "mixer.conv1d.weight"):
        assert not torch.isclose(first[name], second[name]).all(), name


def test_a_loss_reaches_every_weight() -> None:
    model = make_model({"learnable_init_states": True, "bias": True, "tie_embeddings": False})
    model(tokens_for(model, 2, 20)).square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), name
        rows = weight.grad[:37] if name == "lm_head.weight" else weight.grad
        assert rows.abs().sum() > 0, name


# Work per token


class CountOperations(TorchDispatchMode):
    """Counts operations that compute: a kernel each, on a device. Views move no data.

    Composite operations are taken apart, except rms_norm, which on cuda and mps is one kernel. (On a CPU it is six.)
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if operation is not torch.ops.aten.rms_norm.default:
            with self:
                taken_apart = operation.decompose(*args, **kwargs)
            if taken_apart is not NotImplemented:
                return taken_apart
        self.count += not operation.is_view
        return operation(*args, **kwargs)


@pytest.mark.parametrize(
    "fields",
    [{}, {"dt_limit": LIMIT, "bias": True}, {"ngroups": 2, "norm_before_gate": True}, {"conv_bias": False}],
    ids=str,
)
@torch.inference_mode()
def test_a_decoded_token_takes_at_most_25_operations_per_layer(fields: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_token, "ways", [])  # as on a GPU; a CPU has a way of its own
        assert 15 <= operations_per_layer(fields) <= 25  # below 15 something would not have been counted


@torch.inference_mode()
def test_a_cpu_does_with_30_though_it_has_no_kernel_for_a_norm() -> None:
    if DEVICE.type == "cpu":
        assert 20 <= operations_per_layer({"bias": False}) <= 30


def operations_per_layer(fields: dict[str, Any]) -> int:
    """Of a token that is decoded."""
    counts = []
    for depth in (1, 2):
        model = make_model({**fields, "n_layer": depth})
        _, cache = model.prefill(tokens_for(model, 1, 5))
        with CountOperations() as operations:
            model.step(torch.tensor([3]), cache)
        counts.append(operations.count)
    return counts[1] - counts[0]


@torch.inference_mode()
def test_reading_a_prompt_takes_as_many_operations_whatever_its_length() -> None:
    """Within one stretch of chunks, but for one per chunk and layer on a CPU; a second stretch is a second pass."""
    model = make_model({})
    per_chunk = model.config.n_layer if model.device.type == "cpu" else 0

    def operations_for(l: int) -> int:
        ids = tokens_for(model, 1, l)
        model.prefill(ids)  # in which kernels of our own prove themselves, where there are any
        with CountOperations() as operations:
            model.prefill(ids)
        return operations.count

    stretch = 8 * CHUNKS_PER_STRETCH
    one, two, three, four = (operations_for(count * stretch) for count in (1, 2, 3, 4))
    for chunks in (2, 3, 11):
        assert one - operations_for(chunks * 8) == (CHUNKS_PER_STRETCH - chunks) * per_chunk
    assert four - three == three - two < one
    assert one <= 2 * 80


# Bad input


@pytest.mark.parametrize("shape", [(5,), (), (1, 2, 3)], ids=str)
def test_ids_of_a_wrong_rank_are_an_error_that_says_which(shape: tuple[int, ...]) -> None:
    model = make_model({})
    for read in (model, model.prefill):
        with raises(ValueError, "input_ids must have shape (b,l)", f"got {shape}"):
            read(torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize("shape", [(2, 1), (), (1, 2, 3)], ids=str)
def test_step_tokens_of_a_wrong_rank_are_an_error_that_says_which(shape: tuple[int, ...]) -> None:
    model = make_model({})
    with raises(ValueError, "tokens must have shape (b,)", f"got {shape}"):
        model.step(torch.zeros(shape, dtype=torch.long), model.new_cache(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bool, torch.complex64], ids=str)
def test_ids_of_a_wrong_dtype_are_an_error_that_says_which(dtype: torch.dtype) -> None:
    model = make_model({})
    for read in (model, model.prefill):
        with raises(TypeError, "input_ids must be integers", str(dtype)):
            read(torch.zeros(1, 3, dtype=dtype))
    with raises(TypeError, "tokens must be integers", str(dtype)):
        model.step(torch.zeros(1, dtype=dtype), model.new_cache())


@pytest.mark.parametrize("bad", [37, 39, 1000, -1, -37])  # 39 is a row of the embedding, but no token
def test_ids_outside_the_vocabulary_are_an_error_that_says_which(bad: int) -> None:
    model = make_model({})
    assert model.config.padded_vocab_size == 40
    for read in (model, model.prefill):
        with raises(ValueError, "input_ids must lie in 0..36 (vocab_size 37)", f"got {bad}"):
            read(torch.tensor([[3, bad, 36, 0]]))
    with raises(ValueError, "tokens must lie in 0..36 (vocab_size 37)", f"got {bad}"):
        model.step(torch.tensor([bad]), model.new_cache())


def test_an_empty_prompt_is_an_error_that_says_so() -> None:
    model = make_model({})
    with raises(ValueError, "input_ids must hold at least one token per row", "got shape (2, 0)"):
        model.prefill(torch.zeros(2, 0, dtype=torch.long))


def test_a_row_that_is_all_padding_is_an_error_that_names_the_row() -> None:
    model = make_model({})
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    with raises(ValueError, "attention_mask must mark at least one real token per row", "row 1 has none"):
        model.prefill(torch.zeros(2, 3, dtype=torch.long), attention_mask=mask)


@pytest.mark.parametrize("name", ["attention_mask", "document_ids"])
@pytest.mark.parametrize("shape", [(2, 4), (1, 3), (3,), (2, 3, 1)], ids=str)
def test_a_mask_or_document_ids_of_a_wrong_shape_are_an_error_that_says_which(
    name: str, shape: tuple[int, ...]
) -> None:
    model = make_model({})
    for read in (model, model.prefill):
        with raises(ValueError, f"{name} must have the shape of input_ids, (2, 3)", f"got {shape}"):
            read(torch.zeros(2, 3, dtype=torch.long), **{name: torch.ones(shape, dtype=torch.long)})


def test_document_ids_that_are_no_integers_are_an_error() -> None:
    with raises(TypeError, "document_ids must be integers", "torch.float32"):
        make_model({})(torch.zeros(2, 3, dtype=torch.long), document_ids=torch.zeros(2, 3))


def test_a_cache_of_another_depth_or_batch_is_an_error_that_says_which() -> None:
    model = make_model({})
    deep = make_model({"n_layer": 3}).new_cache(2)
    tokens = torch.zeros(2, dtype=torch.long)
    for read, ids in ((model.prefill, tokens[:, None]), (model.step, tokens)):
        with raises(ValueError, "cache must have 2 layers", "got 3"):
            read(ids, deep)
        with raises(ValueError, "cache must hold 2 rows", "got 5"):
            read(ids, model.new_cache(5))


def test_a_cache_of_another_shape_is_an_error_that_says_where() -> None:
    model = make_model({})
    cache, tokens = model.new_cache(2), torch.zeros(2, dtype=torch.long)
    state = cache.layers[1]
    wrong = {
        "cache.layers[1].ssm_state must have shape (2, ": LayerState(state.conv_window, state.ssm_state[..., :-1]),
        "cache.layers[1].conv_window must have shape (2, 3, ": LayerState(state.conv_window[:, 1:], state.ssm_state),
        "cache.layers[1].conv_window must be on cpu": LayerState(state.conv_window.to("meta"), state.ssm_state),
    }
    if model.device.type != "cpu":
        wrong.popitem()
    for message, layer in wrong.items():
        for read, ids in ((model.prefill, tokens[:, None]), (model.step, tokens)):
            with raises(ValueError, message, "got"):
                read(ids, cache.replace_layer(1, layer))
    with raises(TypeError, "cache must be a Mamba2Cache", "got tuple"):
        model.step(tokens, cache.layers)


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_a_seed_that_torch_cannot_take_is_an_error_that_says_so(seed: int) -> None:
    with raises(ValueError, "seed must be in -2**63..2**64-1", f"got {seed}"):
        Mamba2LM(**SMALL, seed=seed)
    with raises(TypeError, "seed must be a whole number", "got 1.5"):
        Mamba2LM(**SMALL, seed=1.5)


def test_a_config_and_fields_together_are_an_error() -> None:
    with raises(TypeError, "give a config or its fields, not both", "d_model, n_layer"):
        Mamba2LM(Mamba2Config(), d_model=64, n_layer=2)


@pytest.mark.parametrize("config", [{"d_model": 64}, "small", 256], ids=str)
def test_a_config_of_another_type_is_an_error(config: object) -> None:
    with raises(TypeError, "config must be a Mamba2Config", f"got {type(config).__name__}"):
        Mamba2LM(config)


def test_an_unknown_field_is_an_error_that_lists_the_fields() -> None:
    with raises(
        ValueError, "unknown config field 'd_modell'", "d_model, d_state, d_conv", "norm_eps, n_layer, vocab_size"
    ):
        Mamba2LM(d_modell=64)


@pytest.mark.parametrize("device", ["tpu", "xpu", "gpu", "", 7, None], ids=repr)
def test_an_unknown_device_is_an_error(device: object) -> None:
    with raises(ValueError, "device must be 'cpu', 'cuda' or 'mps'", f"got {device!r}"):
        Mamba2LM(**SMALL, device=device)
