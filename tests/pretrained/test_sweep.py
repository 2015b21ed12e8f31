"""The sweep over learning rates: what a run gives, how it goes on after a stop, and the record in the box."""

from __future__ import annotations

import dataclasses
import json

import pytest

from mamba2_lab import Mamba2LM
from mamba2_lab.data import Corpus, Document, pack
from mamba2_lab.pretrained import sweep
from mamba2_lab.pretrained.recipes import Text
from mamba2_lab.text import ByteTokenizer
from mamba2_lab.training import TrainingConfig, bits_per_byte, fit

CORPUS = Corpus(
    train=tuple(Document(f"{i}.py", f"def f{i}(x):\n    return {i} * x\n" * 8) for i in range(4)),
    held_out=(Document("g.py", "def g(x):\n    return 2 * x\n"),),
)
SHAPE = {"d_model": 16, "n_layer": 1, "d_state": 8, "headdim": 8, "chunk_size": 4}
TRAINING = TrainingConfig(steps=4, batch_size=2, length=16, warmup_steps=1)
DIVERGES = 1e30


@pytest.fixture(autouse=True)
def a_small_sweep(monkeypatch) -> None:
    monkeypatch.setattr(sweep, "SHAPE", SHAPE)
    monkeypatch.setattr(sweep, "TRAINING", TRAINING)
    monkeypatch.setattr(sweep, "RATES", (0.001, 0.05, DIVERGES))


def test_a_run_is_what_training_at_that_rate_gives(tmp_path):
    runs = sweep.sweep(tmp_path / "sweep.json", CORPUS)["runs"]
    assert [run["learning_rate"] for run in runs] == [0.001, 0.05, DIVERGES]
    for run in runs[:2]:
        model = Mamba2LM(**SHAPE, vocab_size=257, seed=0)
        config = dataclasses.replace(TRAINING, learning_rate=run["learning_rate"])
        records = fit(model, pack(CORPUS.train, ByteTokenizer()), config, progress=False)
        assert run["curve"]["step"] == [0, 1, 2, 3]
        assert run["curve"]["loss"] == pytest.approx([record.loss for record in records], abs=1e-4)
        assert run["bits_per_byte"] == pytest.approx(bits_per_byte(model, CORPUS.held_out, ByteTokenizer()), abs=1e-4)
        assert run["ended"] is None


def test_a_run_whose_loss_is_no_number_any_more_says_so_and_keeps_its_curve_until_then(tmp_path):
    run = sweep.sweep(tmp_path / "sweep.json", CORPUS)["runs"][-1]
    assert run["bits_per_byte"] is None
    assert run["ended"].startswith(f"step {len(run['curve']['loss'])}: the ")
    assert 1 <= len(run["curve"]["loss"]) < TRAINING.steps


def test_a_sweep_that_was_stopped_goes_on_with_the_missing_rates(tmp_path, monkeypatch):
    whole = sweep.sweep(tmp_path / "whole.json", CORPUS)
    trained = []

    def until(rate):
        def train(model, tokens, config, **options):
            if config.learning_rate == rate:
                raise KeyboardInterrupt
            trained.append(config.learning_rate)
            return fit(model, tokens, config, **options)

        return train

    path = tmp_path / "stopped.json"
    monkeypatch.setattr(sweep, "fit", until(0.05))
    with pytest.raises(KeyboardInterrupt):
        sweep.sweep(path, CORPUS)
    assert [run["learning_rate"] for run in json.loads(path.read_text())["runs"]] == [0.001]
    monkeypatch.setattr(sweep, "fit", until(None))
    assert sweep.sweep(path, CORPUS) == whole
    assert sweep.sweep(path, CORPUS) == whole
    assert trained == [0.001, 0.05, DIVERGES]


def test_runs_of_other_settings_are_not_mixed_in(tmp_path, monkeypatch):
    path = tmp_path / "sweep.json"
    sweep.sweep(path, CORPUS)
    before = path.read_text()
    monkeypatch.setattr(sweep, "SHAPE", {**SHAPE, "d_state": 16})
    with pytest.raises(ValueError, match=r"model must be as in .*sweep\.json, .*'d_state': 8.*; got .*'d_state': 16"):
        sweep.sweep(path, CORPUS)
    assert path.read_text() == before


def test_the_command_prints_a_line_for_each_rate(tmp_path, monkeypatch, capsys):
    text = Text(library=CORPUS.train, packages=(), held_out=CORPUS.held_out, vendored=(), dropped=(), licences={})
    monkeypatch.setattr(sweep, "read_text", lambda packages_bytes: {0: text}[packages_bytes])
    sweep.main(["--file", str(tmp_path / "sweep.json")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("learning rate 0.001: ") and lines[0].endswith(" bits per byte on held-out files")
    assert lines[2].startswith("learning rate 1e+30: step ")


class TestTheRecordInTheBox:
    @pytest.fixture(autouse=True)
    def a_small_sweep(self) -> None:
        """None: the record is of the script's own settings."""

    record = json.loads(sweep.RECORD.read_text(encoding="utf-8"))

    def test_it_is_of_the_script_as_it_stands(self):
        settings = {**self.record["training"], "betas": tuple(self.record["training"]["betas"])}
        assert TrainingConfig(**settings) == sweep.TRAINING  # a setting that is younger than the record has its default
        assert self.record["model"] == {**sweep.SHAPE, "seed": sweep.SEED}
        assert [run["learning_rate"] for run in self.record["runs"]] == list(sweep.RATES)

    def test_the_best_rate_lies_inside_and_the_ends_are_clearly_worse(self):
        """Else the sweep would not show what notebook 08 says of it."""
        bits = [run["bits_per_byte"] for run in self.record["runs"]]
        best = bits.index(min(bits))
        assert 0 < best < len(bits) - 1
        assert bits[0] > bits[best] + 0.1 and bits[-1] > bits[best] + 0.1
