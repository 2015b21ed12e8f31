"""What is timed side by side computes the same thing."""

from typing import Any

import pytest
import torch
from support.oracle.mamba2 import recurrence, relative_error
from torch._dynamo.utils import counters

from mamba2_lab.benchmark import measures
from mamba2_lab.benchmark.measures import bits, contestants, models, scans
from mamba2_lab.benchmark.measures.contestants import new_model
from mamba2_lab.benchmark.measures.training import products_and_gradients
from mamba2_lab.layers import Projection


def test_all_scans_compute_the_same() -> None:
    works = measures.scan_forward("cpu", l=70, h=4, p=8, g=2, n=8)
    y, state = works.pop("ours")()
    assert len(works) == 2
    for work in works.values():
        theirs, their_state = work()
        torch.testing.assert_close(theirs, y, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(their_state, state, rtol=1e-4, atol=1e-5)


def test_both_models_read_the_same_prompt_to_the_same_end(tiny: None) -> None:
    works = measures.prefill("cpu", l=40)
    logits, _ = works["ours"]()
    theirs = works["transformers"]().logits
    assert theirs.shape == (1, 1, 40)
    torch.testing.assert_close(theirs[:, 0], logits, rtol=1e-4, atol=1e-5)
    assert not logits.requires_grad


def test_both_models_read_the_same_token_from_the_same_state(tiny: None) -> None:
    works = measures.decode("cpu")
    torch.testing.assert_close(works["transformers"]().logits[:, -1], works["ours"]()[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("measure", [measures.prefill, measures.decode])
def test_a_compiled_model_is_timed_beside_itself_as_written(
    tiny: None, monkeypatch: pytest.MonkeyPatch, measure: Any
) -> None:
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **_: compile_(f, backend="aot_eager", fullgraph=True))
    torch._dynamo.reset()
    works = measure("cpu", compiled=True)
    assert list(works)[:3] == ["ours", "ours, as written", "transformers"]
    counters.clear()
    written = works["ours, as written"]()[0]
    assert counters["stats"]["unique_graphs"] == 0
    torch.testing.assert_close(works["ours"]()[0], written)
    assert counters["stats"]["unique_graphs"] == 1
    torch._dynamo.reset()


def test_both_models_take_the_same_training_step(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []

    def note_norm(loss: torch.Tensor) -> None:
        backward(loss)
        norms.append((loss.item(), loss.grad_fn is not None))

    backward = torch.Tensor.backward
    monkeypatch.setattr(torch.Tensor, "backward", note_norm)
    for work in measures.training_step("cpu", b=2, l=20).values():
        work()
    (ours, _), (theirs, _) = norms
    assert theirs == pytest.approx(ours, rel=1e-5)


def test_the_products_of_a_training_step_are_those_of_each_matrix_and_of_both_its_gradients(
    tiny: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, found, grad = new_model("small", "cpu"), [], torch.autograd.grad

    def note(y: torch.Tensor, factors: tuple[torch.Tensor, ...], given: torch.Tensor) -> None:
        assert y.shape == given.shape
        found.append([gradient.shape for gradient in grad(y, factors, given)])

    monkeypatch.setattr(torch.autograd, "grad", note)
    products_and_gradients(model, 6)()
    matrices = [matrix.weight for block in model.blocks for matrix in (block.mixer.in_proj, block.mixer.out_proj)]
    expected = [[(6, weight.shape[1]), weight.shape] for weight in (*matrices, model.lm_head.weight)]
    assert found == expected


def test_the_ways_to_scan_agree_with_the_recurrence() -> None:
    inputs = measures.scan_inputs("cpu", 1, 70, 4, 8, 1, 8)
    x, dt, A, B, C = inputs
    y, state = recurrence(x * dt[..., None], dt * A, B, C)
    works = measures.scan_ways("cpu", l=70, h=4, p=8, n=8)
    assert list(works) == ["sequential", "quadratic", "chunked"]
    works["alone"] = measures.scan_alone("cpu", l=70, h=4, p=8, n=8)["chunked"]
    for work in works.values():
        for found, expected in zip(work(), (y, state), strict=True):
            assert relative_error(found, expected) < 1e-6


def test_the_scan_in_bfloat16_is_timed_beside_one_that_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "replayed", lambda work: work)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    works = measures.scan_bfloat16("cpu", shape=(2, 100, 4, 8, 2, 16))
    y, state = works["ours"]()
    for name in ("ours, as written", "transformers, chunks of 64"):
        their_y, their_state = works[name]()
        assert relative_error(their_y.float().reshape(y.shape), y.double()) <= 2e-2, name
        assert relative_error(their_state.float(), state.double()) <= 2e-2, name


def test_reading_gives_logits_their_argmax_and_one_token_more(tiny: None) -> None:
    works = measures.reading("cpu", preset="small", b=2, l=9)
    logits = works["forward"]()
    assert logits.shape == (2, 9, 40) and not logits.requires_grad
    assert works["first token"]().tolist() == logits[:, -1].argmax(dim=-1).tolist()
    again = contestants.new_model("small", "cpu")
    ids = contestants.random_ids("small", (2, 9), "cpu")
    longer = again(torch.cat([ids, ids[:, :1]], dim=1))
    torch.testing.assert_close(works["step"]()[0], longer[:, -1], rtol=1e-4, atol=1e-5)


def test_reading_computes_in_the_dtype_asked_for(tiny: None) -> None:
    exact, rounded = (measures.reading("cpu", l=9, dtype=dtype)["forward"]() for dtype in ("float32", "bfloat16"))
    error = relative_error(rounded, exact)
    assert 1e-4 < error < 0.1


def test_a_transformer_reads_one_token_after_as_many_each_time(tiny: None) -> None:
    works = measures.after_reading("cpu", preset="medium", l=6)
    first, second = works["KV cache"](), works["KV cache"]()
    ids = contestants.random_ids("medium", (1, 6), "cpu")
    llama = models.new_llama("medium", "cpu")
    expected = llama(torch.cat([ids, ids[:, :1]], dim=1)).logits[:, -1:]
    for found in (first, second):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    logits = contestants.new_model("medium", "cpu")(torch.cat([ids, ids[:, :1]], dim=1))[:, -1]
    torch.testing.assert_close(works["state"]()[0], logits, rtol=1e-4, atol=1e-5)


def test_what_is_kept_grows_with_the_length_or_does_not(tiny: None) -> None:
    few, many = (measures.kept_bytes("cpu", preset="medium", l=l) for l in (3, 12))
    # keys and values, 6 layers of 5 heads of 64 numbers; states (h,p,n) and windows (3,channels) in 2 layers
    assert (few["KV cache"], many["KV cache"]) == tuple(4 * 2 * 6 * 5 * 64 * l for l in (3, 12))
    assert few["state"] == many["state"] == 4 * 2 * (4 * 8 * 8 + 3 * (32 + 2 * 8))


def test_two_places_compute_the_same_and_leave_the_threads_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, asked = [3], []
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", lambda n: (threads.append(n), asked.append(n)))
    works = measures.two_places("cpu", d_model=32, l=5)
    assert list(works) == ["one thread", "all threads"]
    one, every = (work() for work in works.values())
    torch.testing.assert_close(one, every)
    assert asked == [1, 3]


def test_an_accelerator_is_held_against_the_cpu() -> None:
    works = measures.two_places("meta", d_model=32, l=5)
    assert list(works) == ["cpu", "meta"]
    assert works["cpu"]().device.type == "cpu" and works["meta"]().device.type == "meta"


@pytest.mark.parametrize("l", [1, 6])
def test_the_parts_are_those_of_a_mixer(tiny: None, l: int) -> None:
    works = measures.parts("cpu", preset="large", l=l)
    assert list(works) == ["in_proj", "convolution", "scan", "norm", "out_proj"]
    projected = [works["in_proj"]() for _ in range(3)]
    assert not torch.equal(projected[0], projected[1]), "each call takes the next layer"
    torch.testing.assert_close(projected[0], projected[2])  # there are two
    lead = (1,) if l == 1 else (1, l)
    convolved = works["convolution"]()
    shape = (convolved[0] if l == 1 else convolved).shape
    assert shape == (*lead, 32 + 2 * 8) and works["out_proj"]().shape == (*lead, 16)
    y, state = works["scan"]()
    assert y.shape == (*lead, 4, 8) and state.shape == (1, 4, 8, 8)


def test_ceilings_are_one_product_and_one_pass_over_memory() -> None:
    works = measures.ceilings("cpu", n=8, numbers=1000)
    assert works["matrix product"]().shape == (8, 8)
    assert works["reading memory"]().item() == 1000


def test_a_ceiling_is_multiplied_by_what_multiplies_in_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Projection, "forward", lambda self, input: "as in a model")
    assert measures.ceilings("cpu", n=8, numbers=1)["matrix product"]() == "as in a model"


def test_each_precision_is_timed_on_the_same_weights(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bits, "in_a_row", lambda work, count: work)
    works, sizes = measures.precisions("cpu"), measures.precisions_bytes("cpu")
    exact = works["float32"]()[0]
    for name, within in {"bfloat16": 0.05, "int8": 0.05, "int4": 0.3}.items():
        assert 1e-5 < relative_error(works[name]()[0], exact.double()) < within, name
        assert sizes[name] < sizes["float32"] and f"{name}: matrix products" in works
