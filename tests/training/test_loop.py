"""Trainings on real text, in every precision, and under what may go wrong."""

from __future__ import annotations

import math
import signal
import sysconfig
from collections import Counter
from pathlib import Path

import pytest
import torch
from support.small_models import random_ids, small_model
from support.trainings import QUICK, TOKENIZER, failing_at, packed, quick_fit, stopping_at, weights_of, without_time
from torch import Tensor

from mamba2_lab import Mamba2LM, training
from mamba2_lab.data import Document, PackedTokens, pack, standard_library
from mamba2_lab.training import (
    Record,
    TrainingConfig,
    bits_per_byte,
    fit,
    process,
)
from mamba2_lab.training.step import Learner


def test_the_same_seed_gives_the_same_records_bit_for_bit_and_another_seed_others():
    def run(seed: int) -> tuple[list[tuple], dict[str, Tensor]]:
        model = small_model()
        return without_time(quick_fit(model, seed=seed)), weights_of(model)

    (records, weights), (again, same_weights), (others, _) = run(1), run(1), run(2)
    assert records == again
    assert all(torch.equal(weights[name], same_weights[name]) for name in weights)
    assert records[0] != others[0]


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


def test_a_trained_model_is_ready_to_use_and_a_second_fit_goes_on_from_it():
    model = small_model()
    first = quick_fit(model, learning_rate=0.02, steps=30)
    assert not model.training
    second = quick_fit(model, learning_rate=0.02, steps=30)
    assert second[0].loss < first[0].loss


# What may go wrong


@pytest.mark.parametrize("step", [0, 3])
def test_ctrl_c_ends_the_training_after_the_step_under_way_and_keeps_what_was_learned(monkeypatch, capsys, step):
    whole = without_time(quick_fit(small_model()))
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Learner, "update", stopping_at(step))
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
