"""`model.compile`: the same numbers, one set of kernels for all blocks, no break. One test needs a C++ compiler."""

import copy

import pytest
import torch
from support.devices import DEVICE
from support.small_models import random_ids, small_model
from torch._dynamo.utils import counters

from mamba2_lab import Mamba2LM
from mamba2_lab.fast.compiled import CPU_OPTIONS
from mamba2_lab.fast.linear import HAS_ONEDNN
from mamba2_lab.layers import Block
from mamba2_lab.machine import threads
from mamba2_lab.machine.devices import can_compile
from mamba2_lab.weights import with_weights

WITHOUT_CODE = {"fullgraph": True, "backend": "aot_eager"}  # refuses a break; traces everything, generates no code


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 2])
def test_a_compiled_model_gives_the_same_numbers_on_every_path(fresh_compiler, rows):
    model, ids = small_model(n_layer=3), random_ids(rows, 11)
    expected = model(ids), *model.prefill(ids)
    then = model.step(ids[:, 0], expected[2])[0]
    model.compile(**WITHOUT_CODE)
    torch.testing.assert_close(model(ids), expected[0])
    logits, cache = model.prefill(ids)
    torch.testing.assert_close(logits, expected[1])
    torch.testing.assert_close(model.step(ids[:, 0], cache)[0], then)
    assert counters["stats"]["unique_graphs"] == 2, "all layers share a graph for sequences and one for single tokens"


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 2])
def test_a_compiled_step_of_one_row_leaves_products_to_the_compiler(fresh_compiler, rows):
    model, found = small_model(n_layer=2, bias=True), []
    products = (torch.nn.functional.linear, torch.ops.mamba2_lab.product)

    def backend(graph, inputs):
        found.extend(node.target for node in graph.graph.nodes if node.target in products)
        return graph

    model.compile(backend=backend, fullgraph=True)
    model.step(random_ids(rows, 1)[:, 0], model.new_cache(rows))
    on_cpu = DEVICE.type == "cpu" and HAS_ONEDNN
    assert found == ([] if rows == 1 and on_cpu else [products[on_cpu]] * 5)  # two in each layer, and the head


@torch.no_grad()
@pytest.mark.skipif(DEVICE.type != "cpu" or not can_compile("cpu"), reason="needs a C++ compiler")
def test_what_was_compiled_is_kept_for_a_second_start(fresh_compiler, monkeypatch, tmp_path):
    """Also where a step calls an operation of ours: torch keeps nothing of a graph with one that it does not trust."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    model = with_weights(small_model(d_model=64, headdim=16, n_layer=1), "int8")
    model.compile()
    for expected in ([1, 0], [0, 1]):
        torch._dynamo.reset()
        counters.clear()
        model.step(random_ids(1, 1)[:, 0], model.new_cache())
        assert [counters["aot_autograd"][f"autograd_cache_{name}"] for name in ("miss", "hit")] == expected


@torch.no_grad()
def test_all_steps_after_a_prompt_are_compiled_once(fresh_compiler):
    model = small_model(n_layer=2)
    _, cache = model.prefill(random_ids(1, 7))
    model.compile(**WITHOUT_CODE)
    for token in random_ids(3, 1):
        _, cache = model.step(token, cache)
    assert counters["stats"]["unique_graphs"] == 1


@torch.no_grad()
def test_on_cores_that_others_take_nothing_is_compiled_and_the_numbers_are_the_same(fresh_compiler, monkeypatch):
    model, ids = small_model(n_layer=2), random_ids(1, 7)
    token, (logits, cache) = ids[:, 0], model.prefill(ids)
    then = model.step(token, cache)[0]
    model.compile(**WITHOUT_CODE)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for free, graphs in ((1, 0), (2, 2)) if DEVICE.type == "cpu" else ((1, 2),):
            monkeypatch.setattr(threads, "number", lambda free=free: free)
            torch.testing.assert_close(model.prefill(ids)[0], logits)
            torch.testing.assert_close(model.step(token, cache)[0], then)
            assert counters["stats"]["unique_graphs"] == graphs
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def test_a_cache_that_grows_is_not_compiled_for_every_token(fresh_compiler):
    heads = {"num_heads": 4, "num_heads_kv": 2, "rotary_emb_dim": 4, "d_conv": 3}
    model = Mamba2LM(d_model=16, n_layer=1, mixers="attention", attention=heads)
    model, ids, graphs = model.to(DEVICE).eval(), random_ids(2, 9), []
    expected, cache = model(ids)[:, -1], model.new_cache(2)
    model.compile(**WITHOUT_CODE)
    for tokens in ids.unbind(1):
        logits, cache = model.step(tokens, cache)
        graphs.append(counters["stats"]["unique_graphs"])
    torch.testing.assert_close(logits, expected)
    assert graphs == [1, 2, 3, 3, 3, 3, 3, 3, 3], "one for the first token, one for the second, one for all others"


def test_a_compiled_model_learns_from_the_same_gradients_without_a_break(fresh_compiler):
    model, ids = small_model(n_layer=2), random_ids(2, 11)
    document_ids = (torch.arange(11) // 4).expand(2, 11)

    def gradients():
        loss = model(ids, document_ids=document_ids).square().mean()
        return torch.autograd.grad(loss, list(model.parameters()))

    expected = gradients()
    model.compile(**WITHOUT_CODE)
    for found, exact in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(found, exact)
    assert counters["stats"]["unique_graphs"] == 1


@torch.no_grad()
def test_a_copy_of_a_compiled_model_computes_with_its_own_weights(fresh_compiler):
    model, ids = small_model(n_layer=1), random_ids(1, 5)
    before, cache = model(ids), model.new_cache()
    then = model.step(ids[:, 0], cache)[0]
    model.compile(**WITHOUT_CODE)
    twin = copy.deepcopy(model)
    for parameter in twin.layers.parameters():
        parameter.zero_()
    torch.testing.assert_close(model(ids), before)
    torch.testing.assert_close(twin(ids), twin.unembed(twin.embed(ids.to(DEVICE))))
    torch.testing.assert_close(model.step(ids[:, 0], cache)[0], then)
    torch.testing.assert_close(twin.step(ids[:, 0], cache)[0], twin.unembed(twin.embed(ids[:, 0].to(DEVICE))))


def test_a_compiler_for_the_cpu_has_options_unless_some_are_given(monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: calls.append((function, options)) or function)
    model = small_model(n_layer=1)
    model.compile()
    model.compile(mode="max-autotune")
    default = {"options": CPU_OPTIONS} if DEVICE.type == "cpu" else {}
    given = {"mode": "max-autotune"}
    assert [function for function, _ in calls] == [Block.forward, Block.forward, Mamba2LM._step] * 2
    fixed = {"dynamic": False}
    assert [options for _, options in calls] == [default, default | fixed, default, given, given | fixed, given]


def test_for_gradients_each_size_is_compiled_by_itself(fresh_compiler):
    """A graph for all sizes lets torch 2.13 write outside of its tensors (with C++ code, which is not made here)."""
    model, sizes = small_model(n_layer=1), []

    def backend(graph, inputs):
        sizes.append([size for tensor in inputs if isinstance(tensor, torch.Tensor) for size in tensor.shape])
        return graph

    model.compile(backend=backend)
    for rows in (2, 3, 5):
        model(random_ids(rows, 8)).sum().backward()
    assert len(sizes) == 3 and all(type(size) is int for graph in sizes for size in graph)


def test_uncompile_takes_it_back(fresh_compiler):
    model = small_model(n_layer=2)
    model.uncompile()
    model.compile(**WITHOUT_CODE)
    model.uncompile()
    _, cache = model.prefill(random_ids(1, 5))
    model.step(random_ids(1, 1)[:, 0], cache)
    assert counters["stats"]["unique_graphs"] == 0
