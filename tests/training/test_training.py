"""Training against AdamW written out by hand, on real text, and under everything that may go wrong."""

from __future__ import annotations

import math
import os
import signal
import sysconfig
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from support.small_models import random_ids, small_model
from torch import Tensor

from mamba2_lab import Mamba2LM, scan, training
from mamba2_lab.data import Document, PackedTokens, pack, standard_library
from mamba2_lab.text import ByteTokenizer
from mamba2_lab.training import (
    Record,
    TrainingConfig,
    bits_per_byte,
    fit,
    learning_rate,
    next_token_loss,
    parameter_groups,
    process,
)
from mamba2_lab.training.restoring import MPS_FALLBACK
from mamba2_lab.training.step import Learner

TOKENIZER = ByteTokenizer()
QUICK = {"steps": 6, "batch_size": 2, "length": 12, "warmup_steps": 2}
TEXTS = ["def f(x):\n    return x\n", "né = '🐍'\n", "", "import json\nprint(json.dumps([1, 2, 3]))\n"]


def documents(texts: list[str] = TEXTS) -> list[Document]:
    return [Document(f"{i}.py", text) for i, text in enumerate(texts)]


def packed(texts: list[str] = TEXTS) -> PackedTokens:
    return pack(documents(texts), TOKENIZER)


def quick_fit(model: Mamba2LM, **changes) -> list[Record]:
    return fit(model, packed(), TrainingConfig(**{**QUICK, **changes}), progress=False)


def weights_of(model: Mamba2LM) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


def without_time(records: list[Record]) -> list[tuple]:
    return [(r.step, r.loss, r.learning_rate, r.gradient_norm) for r in records]


# The update

NOT_DECAYED = {"dt_bias", "A_log", "D", "init_states"}


@pytest.mark.parametrize(
    "changes",
    [{}, {"tie_embeddings": False, "bias": True}, {"learnable_init_states": True, "conv_bias": False}],
    ids=str,
)
def test_every_weight_is_in_one_group_and_those_that_set_time_scales_are_not_decayed(changes):
    model = small_model(**changes)
    decayed, free = parameter_groups(model, 0.3)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    grouped = [id(p) for group in (decayed, free) for p in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in model.parameters()}
    expected = {id(p) for name, p in model.named_parameters() if name.split(".")[-1] in NOT_DECAYED}
    assert {id(p) for p in free["params"]} == expected
    assert len(expected) == 2 * (3 + changes.get("learnable_init_states", False))


def trained_by_hand(model: Mamba2LM, tokens: PackedTokens, config: TrainingConfig) -> list[tuple]:
    """AdamW with clipping, from the equations of Loshchilov and Hutter (arXiv:1711.05101, algorithm 2)."""
    first, second = config.betas
    named = dict(model.named_parameters())
    m, v = ({name: torch.zeros_like(p) for name, p in named.items()} for _ in range(2))
    records = []
    for step in range(config.steps):
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        batch = tokens.random_batch(config.batch_size, config.length, generator)
        log_p = model(batch.input_ids, document_ids=batch.document_ids).log_softmax(dim=-1)
        loss = -log_p.gather(-1, batch.targets[..., None]).mean()
        gradients = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
        rate = learning_rate(step, config)
        for name, p in named.items():
            g = gradients[name] * min(1.0, config.clip_norm / norm)
            m[name] = first * m[name] + (1 - first) * g
            v[name] = second * v[name] + (1 - second) * g**2
            ahead, scale = m[name] / (1 - first ** (step + 1)), v[name] / (1 - second ** (step + 1))
            decay = 0.0 if name.split(".")[-1] in NOT_DECAYED else config.weight_decay
            with torch.no_grad():
                p -= rate * (decay * p + ahead / (scale.sqrt() + 1e-8))
        records.append((step, loss.item(), rate, norm))
    return records


@pytest.mark.parametrize("clip_norm", [0.5, 1e6], ids=["clipped", "unclipped"])
def test_an_update_is_that_of_adamw_with_clipping_and_decay(clip_norm):
    config = TrainingConfig(**QUICK, clip_norm=clip_norm, weight_decay=0.4, learning_rate=0.02)
    ours, by_hand = small_model().double(), small_model().double()
    expected = trained_by_hand(by_hand, packed(), config)
    records = fit(ours, packed(), config, progress=False)
    for got, wanted in zip(without_time(records), expected, strict=True):
        assert got == pytest.approx(wanted, rel=1e-5)
    for name, weight in by_hand.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name), weight, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("step", "share"),
    [
        (0, 1 / 20),  # never zero: the first step already counts
        (9, 0.5),
        (19, 1.0),
        (20, 1.0),
        (65, 0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2),
        (110, 0.55),  # half of the way down
        (200, 0.1),
        (500, 0.1),
    ],
)
def test_the_learning_rate_rises_in_a_line_and_falls_along_a_cosine_to_a_tenth(step, share):
    config = TrainingConfig(steps=200, warmup_steps=20)
    assert learning_rate(step, config) == pytest.approx(share * config.learning_rate, rel=1e-12)


def test_the_learning_rate_may_fall_to_nothing():
    config = TrainingConfig(steps=200, warmup_steps=20, final_share=0.0)
    assert learning_rate(110, config) == pytest.approx(0.5 * config.learning_rate, rel=1e-12)
    assert learning_rate(199, config) < 1e-4 * config.learning_rate


def test_without_warm_up_the_first_step_has_the_peak_rate():
    assert learning_rate(0, TrainingConfig(steps=10, warmup_steps=0, learning_rate=0.5)) == 0.5
    assert learning_rate(3, TrainingConfig(steps=3, warmup_steps=5, learning_rate=0.5)) == pytest.approx(0.4)


def test_records_tell_the_learning_rate_of_each_step_and_time_that_passes():
    records = quick_fit(small_model(), learning_rate=0.01)
    assert [r.step for r in records] == list(range(6))
    rates = [0.005, 0.01, 0.01, *(0.01 * (0.1 + 0.45 * (1 + math.cos(math.pi * i / 4))) for i in (1, 2, 3))]
    assert [r.learning_rate for r in records] == pytest.approx(rates)
    assert 0 < records[0].seconds <= records[1].seconds <= records[-1].seconds


def test_the_loss_is_cross_entropy_in_nats_per_token():
    logits = torch.tensor([[[0.0, math.log(3.0)], [0.0, 0.0]]])
    assert float(next_token_loss(logits, torch.tensor([[1, 0]]))) == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)


# What comes of it


def test_the_same_seed_gives_the_same_records_bit_for_bit_and_another_seed_others():
    def run(seed: int) -> tuple[list[tuple], dict[str, Tensor]]:
        model = small_model()
        return without_time(quick_fit(model, seed=seed)), weights_of(model)

    (records, weights), (again, same_weights), (others, _) = run(1), run(1), run(2)
    assert records == again
    assert all(torch.equal(weights[name], same_weights[name]) for name in weights)
    assert records[0] != others[0]


def test_training_leaves_torchs_own_generator_alone():
    before = torch.random.get_rng_state()
    quick_fit(small_model())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_few_hundred_steps_learn_one_text_by_heart():
    """48 random bytes: nothing in them to generalise from, so a loss near zero is memory."""
    ids = random_ids(49, vocab_size=256)
    tokens = PackedTokens(ids.int(), torch.zeros(49, dtype=torch.long))
    model = Mamba2LM(d_model=32, n_layer=2, d_state=16, headdim=16, chunk_size=16, vocab_size=257, seed=0)
    config = TrainingConfig(steps=150, batch_size=1, length=48, learning_rate=1e-2, weight_decay=0.0)
    records = fit(model, tokens, config, progress=False)
    assert records[0].loss == pytest.approx(math.log(257), abs=0.3)
    assert records[-1].loss < 0.05
    learned = model.generate(ids[None, :1], max_new_tokens=48, temperature=0)
    assert torch.equal(learned[0], ids), "what was learned by heart can be said by heart"


def test_sixty_steps_on_real_text_learn_more_than_how_often_each_byte_comes():
    corpus = standard_library(Path(sysconfig.get_paths()["stdlib"]) / "asyncio")
    tokens = pack(corpus.train, TOKENIZER)
    counts = Counter(tokens.ids.tolist())
    unigram = -sum(count / len(tokens) * math.log(count / len(tokens)) for count in counts.values())
    model = Mamba2LM(d_model=64, n_layer=2, d_state=16, headdim=32, vocab_size=257, seed=0)
    config = TrainingConfig(steps=60, batch_size=8, length=128, learning_rate=1e-2, warmup_steps=10)
    losses = [record.loss for record in fit(model, tokens, config, progress=False)]
    assert losses[0] == pytest.approx(math.log(257), abs=0.3)
    assert sum(losses[-10:]) / 10 < unigram - 0.2
    unseen = [Document(document.name, document.text[:3000]) for document in corpus.held_out]
    assert bits_per_byte(model, unseen, TOKENIZER) < (unigram - 0.2) / math.log(2)


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


# Precision and compilation


def test_bf16_ends_within_two_percent_of_float32_and_leaves_the_weights_in_float32():
    """Two hundred steps on real text, the mean loss over the last forty."""

    def run(precision: str) -> tuple[list[float], Mamba2LM]:
        model = Mamba2LM(d_model=32, n_layer=2, d_state=16, headdim=16, chunk_size=32, vocab_size=257, seed=0)
        config = TrainingConfig(steps=200, batch_size=4, length=48, learning_rate=1e-2, precision=precision)
        return [record.loss for record in fit(model, tokens, config, progress=False)], model

    tokens = pack(standard_library(Path(sysconfig.get_paths()["stdlib"]) / "json").train, TOKENIZER)
    (exact, _), (rounded, model) = run("fp32"), run("bf16")
    assert sum(exact[-40:]) < 0.6 * sum(exact[:40]), "so that there is something to compare"
    assert sum(rounded[-40:]) == pytest.approx(sum(exact[-40:]), rel=0.02)
    assert rounded != exact
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_compiled_blocks_learn_the_same(monkeypatch):
    """`fullgraph` refuses a block that Python interrupts; without a backend no C++ compiler is needed."""
    compiled = []

    def compile_whole(function, **_):
        compiled.append(function.__qualname__)
        return torch_compile(function, fullgraph=True, backend="aot_eager")

    torch_compile = torch.compile
    monkeypatch.setattr(torch, "compile", compile_whole)
    monkeypatch.setattr(process, "can_compile", lambda device: True)
    for precision, tolerance in (("fp32", 1e-5), ("bf16", 1e-3)):
        config = {"precision": precision, "steps": 3}
        expected = [record.loss for record in quick_fit(small_model(n_layer=2), **config)]
        assert not compiled
        model = small_model(n_layer=2)
        losses = [record.loss for record in quick_fit(model, **config, compile=True)]
        assert losses == pytest.approx(expected, rel=tolerance)
        assert compiled == ["Block.forward", "Block.forward", "LanguageModel._step"]
        made_anew = ["forward" in vars(block) for block in model.blocks] + ["_step" in vars(model)]
        assert not any(made_anew), "a trained model is as it was made"
        compiled.clear()


def test_it_trains_where_a_notebook_has_switched_gradients_off_and_leaves_them_off():
    expected = without_time(quick_fit(small_model()))
    with torch.no_grad():
        assert without_time(quick_fit(small_model())) == expected
        assert not torch.is_grad_enabled()


def test_a_trained_model_is_ready_to_use_and_a_second_fit_goes_on_from_it():
    model = small_model()
    first = quick_fit(model, learning_rate=0.02, steps=30)
    assert not model.training
    second = quick_fit(model, learning_rate=0.02, steps=30)
    assert second[0].loss < first[0].loss


# What may go wrong


def failing_at(step: int, error: Exception):
    """`update`, but it raises in the given step."""
    update = Learner.update

    def failing(learner, at):
        if at == step:
            raise error
        return update(learner, at)

    return failing


@pytest.mark.parametrize("step", [0, 3])
def test_ctrl_c_ends_the_training_after_the_step_under_way_and_keeps_what_was_learned(monkeypatch, capsys, step):
    whole = without_time(quick_fit(small_model()))
    update = Learner.update

    def interrupted(run, at):
        if at == step:
            signal.raise_signal(signal.SIGINT)
        return update(run, at)

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Learner, "update", interrupted)
    model = small_model()
    assert without_time(quick_fit(model)) == whole[: step + 1]
    assert signal.getsignal(signal.SIGINT) is handler and not model.training
    assert f"stopped after {step + 1} of 6 steps; what was learned is kept" in capsys.readouterr().out


def test_another_error_is_not_swallowed(monkeypatch):
    monkeypatch.setattr(Learner, "update", failing_at(2, RuntimeError("out of memory")))
    model = small_model()
    with pytest.raises(RuntimeError, match="out of memory"):
        quick_fit(model)
    assert not model.training


def test_a_loss_that_is_no_number_ends_the_training_with_advice():
    model = small_model()
    with torch.no_grad():
        model.norm_f.weight[0] = math.inf
    with pytest.raises(FloatingPointError, match=r"the loss became nan; a lower learning rate than 0\.003 may help"):
        quick_fit(model)


def test_a_gradient_that_is_no_number_ends_the_training_before_it_ruins_the_weights():
    model = small_model()
    before = weights_of(model)
    model.norm_f.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(FloatingPointError, match=r"the gradient norm became (inf|nan); a lower learning rate than"):
        quick_fit(model)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_a_window_longer_than_the_text_is_refused():
    with pytest.raises(ValueError, match=rf"length must be less than the {len(packed())} tokens there are; got 5000"):
        quick_fit(small_model(), length=5000)


def test_without_documents_there_is_nothing_to_train_on():
    with pytest.raises(ValueError, match="documents must hold at least one document; got none"):
        fit(small_model(), packed([]), TrainingConfig(**QUICK), progress=False)


def test_no_progress_bar_is_shown_unless_asked_for(capsys):
    quick_fit(small_model())
    assert capsys.readouterr() == ("", "")
    fit(small_model(), packed(), TrainingConfig(**QUICK))
    assert "training" in capsys.readouterr().err


ABOVE_ZERO = ["steps", "batch_size", "length", "learning_rate", "clip_norm", "accumulation"]
ZERO_OR_MORE = ["warmup_steps", "final_share", "weight_decay", "save_every", "evaluate_every"]
COUNTS = ["steps", "batch_size", "length", "warmup_steps", "accumulation", "save_every", "evaluate_every"]
NUMBERS = ["learning_rate", "final_share", "weight_decay", "clip_norm"]
HUGE = 10**400


@pytest.mark.parametrize(
    ("name", "value", "error", "expected"),
    [
        *[(name, value, ValueError, "above 0") for name in ABOVE_ZERO for value in (0, -1)],
        *[(name, -1, ValueError, "0 or more") for name in ZERO_OR_MORE],
        *[(name, value, TypeError, "a whole number") for name in [*COUNTS, "seed"] for value in (1.5, True, None)],
        *[(name, value, ValueError, "at most 2,000,000,000") for name in COUNTS for value in (2**31, HUGE)],
        *[(name, math.nan, ValueError, "above 0") for name in ("learning_rate", "clip_norm")],
        *[(name, math.nan, ValueError, "0 or more") for name in ("final_share", "weight_decay")],
        *[(name, value, TypeError, "a number") for name in NUMBERS for value in ("fast", None, True, 1j)],
        *[("final_share", value, ValueError, "at most 1") for value in (1.5, math.inf)],
        *[("weight_decay", value, ValueError, "at most 1,000,000") for value in (1e7, math.inf)],
        *[("learning_rate", value, ValueError, "at most 1e+37") for value in (math.inf, 1e300, 1e38)],
        ("seed", 10**13, ValueError, "at most 8,000,000,000,000"),
        ("seed", -(10**13), ValueError, "at least -8,000,000,000,000"),
        *[
            ("betas", value, TypeError, "a pair of numbers")
            for value in (0.9, None, (0.9,), (1, 2, 3), ("0.9", 0.9), [[], 0])
        ],
        *[
            ("betas", value, ValueError, "two numbers from 0 up to, but not, 1")
            for value in ((1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9, math.nan), (math.inf, 0.9), (0.9, HUGE))
        ],
        *[
            (name, value, TypeError, "True or False")
            for name in ("compile", "checkpoint_blocks")
            for value in ("no", 1)
        ],
        *[("precision", value, ValueError, "one of fp32, bf16, fp16") for value in ("fp64", None, [], 16)],
    ],
)
def test_a_bad_setting_is_refused_with_its_name_the_expectation_and_the_value(name, value, error, expected):
    with pytest.raises(error) as caught:
        TrainingConfig(**{name: value})
    assert str(caught.value) == f"{name} must be {expected}; got {value!r}"


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_no_float_holds_is_refused_without_writing_it_out(name):
    with pytest.raises(ValueError, match=f"^{name} must be a number that a float can hold; got one of 1329 bits$"):
        TrainingConfig(**{name: HUGE})


@pytest.mark.parametrize(
    "extreme",
    [
        {"betas": (0, 0)},  # torch wants floats
        {"betas": [0.0, 1 - 1e-16]},
        {"betas": (1 - 1e-16, 0.999), "learning_rate": 1e22},
        {"learning_rate": 9e36},
        {"learning_rate": 1e-300},
        {"weight_decay": 1_000_000},
        {"clip_norm": math.inf},
        {"clip_norm": 1e300},
        {"seed": 8_000_000_000_000},
        {"seed": -8_000_000_000_000},
        {"warmup_steps": 2_000_000_000, "save_every": 2_000_000_000},
        {"final_share": 1},
    ],
    ids=str,
)
def test_what_is_allowed_torch_can_compute_with(extreme):
    """The loss may be lost, but in our words."""
    try:
        records = quick_fit(small_model(), **{"steps": 2, **extreme})
    except FloatingPointError as error:
        assert "a lower learning rate than" in str(error)
    else:
        assert len(records) == 2


# What a model must be like


def test_a_model_without_a_weight_that_learns_is_refused():
    model = small_model().requires_grad_(False)
    with pytest.raises(ValueError, match="model must have parameters that require gradients to be trained; got none"):
        quick_fit(model)


def test_what_is_frozen_stays_and_the_rest_learns(tmp_path):
    """And such a run can be resumed: AdamW keeps nothing of a weight that is frozen."""

    def model() -> Mamba2LM:
        made = small_model()
        made.embedding.weight.requires_grad_(False)
        return made

    config = TrainingConfig(**QUICK)
    whole, stopped = model(), model()
    before = weights_of(whole)
    expected = without_time(fit(whole, packed(), config, progress=False))

    def stop(record: Record) -> None:
        if record.step == 3:
            raise KeyboardInterrupt

    saving = TrainingConfig(**QUICK, save_every=2)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, packed(), saving, folder=tmp_path, on_step=stop, progress=False)
    records = fit(resumed := model(), packed(), saving, folder=tmp_path, resume=True, progress=False)
    assert without_time(records) == expected
    assert torch.equal(resumed.embedding.weight, before["embedding.weight"])
    assert not torch.equal(resumed.norm_f.weight, before["norm_f.weight"])
    assert all(torch.equal(weight, weights_of(whole)[name]) for name, weight in weights_of(resumed).items())


@pytest.mark.parametrize(("device", "what"), [("cpu", r"a C\+\+ compiler"), ("cuda", "Triton")])
def test_without_a_compiler_nothing_begins(device, what, monkeypatch, tmp_path):
    monkeypatch.setattr(process, "can_compile", lambda device: False)
    monkeypatch.setattr(Mamba2LM, "device", property(lambda self: torch.device(device)))
    config = TrainingConfig(**QUICK, compile=True)
    expected = f"^compile must be off where {what} is missing, as it is here; got True$"
    with pytest.raises(ValueError, match=expected):
        fit(small_model(), packed(), config, folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    training.require_a_compiler(TrainingConfig(**QUICK), torch.device(device))
    training.require_a_compiler(config, torch.device("mps"))  # nobody has tried


@pytest.mark.parametrize("fails", [False, True])
def test_modes_and_compiled_functions_are_those_that_were_found(monkeypatch, fails):
    monkeypatch.setattr(process, "can_compile", lambda device: True)
    torch_compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **_: torch_compile(function, backend="eager"))
    model = small_model()
    model.compile()
    model.train()
    model.layers[1].eval()
    model.checkpoint_blocks = True

    def found() -> list:
        names = ("training", "forward", "_step", "checkpoint_blocks")
        return [{name: vars(module).get(name) for name in names} for module in model.modules()]

    before = found()
    if fails:
        monkeypatch.setattr(Learner, "update", failing_at(1, RuntimeError("out of memory")))
        with pytest.raises(RuntimeError, match="out of memory"):
            quick_fit(model, compile=True, steps=2)
    else:
        quick_fit(model, compile=True, steps=2)
    assert found() == before
    assert all(parameter.grad is None for parameter in model.parameters())


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


def test_a_training_leaves_what_accelerate_keeps_for_the_process_as_it_was(monkeypatch):
    """A caller's own Accelerator works on, and no process that is started later falls back from mps in silence."""
    monkeypatch.delenv(MPS_FALLBACK, raising=False)
    tokens = PackedTokens(random_ids(200), torch.zeros(200, dtype=torch.int32))

    def learn():
        fit(small_model(), tokens, TrainingConfig(steps=1, batch_size=1, length=8), progress=False)

    theirs = process.Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=4)

    def as_on_a_mac(**options):
        os.environ[MPS_FALLBACK] = "1"
        return accelerator(**options)

    accelerator = process.Accelerator
    monkeypatch.setattr(process, "Accelerator", as_on_a_mac)
    learn()
    assert MPS_FALLBACK not in os.environ
    assert (theirs.mixed_precision, theirs.num_processes, theirs.gradient_accumulation_steps) == ("bf16", 1, 4)
    monkeypatch.setenv(MPS_FALLBACK, "0")
    learn()
    assert os.environ[MPS_FALLBACK] == "0"
