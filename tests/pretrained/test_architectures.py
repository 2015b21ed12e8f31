"""Six architectures on one text: what is alike, how rates are looked for, what a run leaves, the record in the box."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from mamba2_lab import MambaLM
from mamba2_lab.data import Corpus, Document
from mamba2_lab.pretrained import architectures, parity
from mamba2_lab.pretrained.copying import shares_copied, twice
from mamba2_lab.pretrained.recipes import Text
from mamba2_lab.text import ByteTokenizer
from mamba2_lab.training import TrainingConfig, fit

TRAINING = TrainingConfig(steps=3, batch_size=2, length=16, warmup_steps=1)
CORPUS = Corpus(
    train=tuple(Document(f"{i}.py", f"def f{i}(x):\n    return {i} * x\n" * 8) for i in range(4)),
    held_out=(Document("g.py", "def g(x):\n    return 2 * x\n\n\n" * 4),),
)
ATTENTION = {"num_heads": 1, "head_dim": 8}
SMALL = {
    "mamba2": {"d_model": 16, "n_layer": 1, "mixers": "mamba2", "mamba2": {"d_state": 8, "headdim": 8}},
    "llama": {"d_model": 16, "n_layer": 1, "mixers": "attention", "attention": ATTENTION},
}


@pytest.fixture
def small(monkeypatch, tmp_path) -> list[str]:
    """Trainings of seconds, and the arguments that go with them."""
    text = Text(library=CORPUS.train, packages=(), held_out=CORPUS.held_out, vendored=(), dropped=(), licences={})
    monkeypatch.setattr(architectures, "read_text", lambda packages_bytes: text)
    monkeypatch.setattr(architectures, "standard_library", lambda: CORPUS)
    monkeypatch.setattr(architectures, "load_tokenizer", lambda name: ByteTokenizer())
    monkeypatch.setattr(architectures, "ARCHITECTURES", SMALL)
    monkeypatch.setattr(architectures, "TRAINING", TRAINING)
    monkeypatch.setattr(architectures, "SHORT", dataclasses.replace(TRAINING, steps=2))
    monkeypatch.setattr(architectures, "RATES", (1e-3, 1e-2))
    monkeypatch.setattr(architectures, "COUNT", 1)
    monkeypatch.setattr(architectures, "DISTANCES", (4,))
    return ["--device", "cpu", "--file", str(tmp_path / "record.jsonl"), "--tokens", str(tmp_path / "tokens.pt")]


def noted(path, losses: dict[float, float]) -> None:
    for rate, loss in losses.items():
        row = {"what": "rates", "architecture": "mamba2", "learning_rate": rate, "loss": loss, "ended": None}
        architectures.note(path, row)


def test_all_are_as_large_as_medium_within_two_parts_in_a_hundred():
    for name in architectures.ARCHITECTURES:
        assert architectures.build(name, 4096, device="meta").num_parameters() == pytest.approx(7_655_950, rel=0.02)


def test_the_hybrid_attends_in_one_layer_of_nine():
    mixers = architectures.ARCHITECTURES["hybrid"]["mixers"]
    assert len(mixers) == 9 and mixers.count("attention") == 1


class TestRates:
    def test_the_best_is_the_one_whose_training_loss_ends_lowest(self, tmp_path):
        path = tmp_path / "record.jsonl"
        noted(path, {2e-3: 3.0, 4e-3: 2.0, 8e-3: 2.5, 1.6e-2: 3.5})
        assert architectures.best_rate(path, "mamba2") == 4e-3

    def test_no_rate_is_taken_while_one_is_missing(self, tmp_path):
        path = tmp_path / "record.jsonl"
        noted(path, {2e-3: 3.0, 4e-3: 2.0, 8e-3: 2.5})
        with pytest.raises(ValueError, match=r"must hold short runs of mamba2 at \[0\.016\]; make them with `rates"):
            architectures.best_rate(path, "mamba2")

    def test_a_best_rate_at_an_end_is_none_yet(self, tmp_path):
        path = tmp_path / "record.jsonl"
        noted(path, {2e-3: 3.0, 4e-3: 2.5, 8e-3: 2.2, 1.6e-2: 2.0})
        with pytest.raises(ValueError, match=r"\[0\.032\]"):
            architectures.best_rate(path, "mamba2")

    def test_the_command_goes_on_until_the_best_lies_inside(self, small, monkeypatch):
        tried = []

        def train(name, config, given, options):
            tried.append(config.learning_rate)
            loss = abs(config.learning_rate - 2e-2)
            row = {"architecture": name, "learning_rate": config.learning_rate, "loss": loss, "ended": None}
            return row, None

        monkeypatch.setattr(architectures, "train", train)
        architectures.main(["rates", "mamba2", *small])
        architectures.main(["rates", "mamba2", *small])
        assert tried == [1e-3, 1e-2, 5e-3, 2e-2, 4e-2]


@pytest.mark.parametrize("name", SMALL)
def test_a_training_is_measured_noted_and_not_made_again(small, monkeypatch, capsys, name):
    monkeypatch.setattr(architectures, "best_rate", lambda path, name: 1e-2)
    architectures.main(["training", name, "--seeds", "0", *small])
    architectures.main(["training", name, "--seeds", "0", *small])
    (row,) = [json.loads(line) for line in architectures.Path(small[3]).read_text(encoding="utf-8").splitlines()]
    assert row["architecture"] == name and row["tokens"] == 3 * 2 * 16
    assert 4 < row["bits_per_byte"] < 12 and 0 <= row["parses"] <= 1 and set(row["copied"]) == {"4"}
    assert ("bits_per_byte_beyond" in row) == (name == "llama")
    assert row["curve"]["step"] == [0, 1, 2] and row["loss"] == pytest.approx(sum(row["curve"]["loss"]) / 3, abs=1e-3)
    assert capsys.readouterr().out.count(f"{name}: learning rate 0.01") == 1


def test_attention_reads_in_windows_as_long_as_in_training_and_twice_as_long(small, monkeypatch):
    given = architectures.material(architectures.Path(small[-1]))
    windows = []

    def watched(model, documents, tokenizer, window):
        windows.append(window)
        return 1.0

    monkeypatch.setattr(architectures, "bits_per_byte", watched)
    for name in ("mamba2", "llama"):
        architectures.measured(architectures.build(name, 257), given)
    assert windows == [16, 16, 32]


def test_a_training_that_was_stopped_leaves_no_line_and_goes_on(small, monkeypatch, tmp_path):
    def stopped(model, tokens, config, **options):
        return fit(model, tokens, dataclasses.replace(config, steps=2), **options)

    monkeypatch.setattr(architectures, "best_rate", lambda path, name: 1e-2)
    arguments = ["training", "mamba2", "--seeds", "0", "--checkpoints", str(tmp_path / "kept"), *small]
    monkeypatch.setattr(architectures, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        architectures.main(arguments)
    assert not architectures.read(tmp_path / "record.jsonl")
    monkeypatch.setattr(architectures, "fit", fit)
    architectures.main(arguments)
    assert architectures.read(tmp_path / "record.jsonl")[0]["curve"]["step"] == [0, 1, 2]


def test_an_unknown_name_is_refused(small, capsys):
    with pytest.raises(SystemExit):
        architectures.main(["rates", "mamba4", *small])
    assert "NAME must be one of mamba2, llama; got mamba4" in capsys.readouterr().err


def test_decoding_tells_the_size_of_the_state(small, monkeypatch):
    monkeypatch.setattr(architectures, "READ", 10)
    architectures.main(["decoding", "--seconds", "0.01", *small])
    rows = {
        row["architecture"]: row
        for row in map(json.loads, architectures.Path(small[3]).read_text(encoding="utf-8").splitlines())
    }
    assert rows["llama"]["bytes"] > 10 * 2 * 8 * 4  # keys and values of ten tokens
    assert all(row["tokens_per_second"] > 0 for row in rows.values())


class TestCopying:
    def test_the_second_reading_is_the_first_again_in_another_order_than_the_text(self):
        given = twice(CORPUS.held_out, ByteTokenizer(), 20, 3, seed=0)
        assert given.shape == (3, 41) and torch.equal(given[:, 1:21], given[:, 21:])
        text = ByteTokenizer().encode(CORPUS.held_out[0].text)
        windows = [sorted(text[i : i + 20]) for i in range(len(text) - 19)]
        assert all(sorted(row[1:21].tolist()) in windows for row in given)
        assert all(row[1:21].tolist() != text[i : i + 20] for row in given for i in range(len(text)))

    def test_who_looks_back_copies_and_who_does_not_guesses(self):
        class LooksBack(torch.nn.Module):
            def __init__(self, distance):
                super().__init__()
                self.distance = distance

            def forward(self, ids):
                ahead = ids.roll(self.distance - 1, dims=1)
                return torch.nn.functional.one_hot(ahead, 257).float()

        looking = shares_copied(LooksBack(8), CORPUS.held_out, ByteTokenizer(), 8)
        assert looking["again"] == 1.0 and looking["first"] < 0.3
        assert shares_copied(LooksBack(5), CORPUS.held_out, ByteTokenizer(), 8)["again"] < 0.3

    def test_a_text_longer_than_the_documents_is_refused(self):
        with pytest.raises(ValueError, match=r"length must be 1\.\.\d+, the tokens of the documents; got 1000"):
            twice(CORPUS.held_out, ByteTokenizer(), 1000, 1, seed=0)


class TestParity:
    def test_answers_tell_whether_the_ones_so_far_are_odd(self):
        bits, answers = parity.parities(5, 9, torch.Generator().manual_seed(0))
        for row, answer in zip(bits.tolist(), answers.tolist(), strict=True):
            assert answer == [sum(row[: i + 1]) % 2 for i in range(9)]

    def test_learning_lowers_the_loss_and_the_share_is_of_the_last_bit(self, monkeypatch):
        monkeypatch.setattr(parity, "LONGEST", 4)
        model = MambaLM(**architectures.TINY["mamba3"], **{**parity.SHAPE, "n_layer": 1}, seed=0)
        before = parity.share_right(model, 4)
        parity.learn(model, 1e-2, 0, steps=80)
        assert parity.share_right(model, 4) > max(before, 0.9)


class TestTheRecordInTheBox:
    rows = architectures.read()

    def test_trainings_are_of_the_script_as_it_stands(self):
        for row in (row for row in self.rows if row["what"] == "training"):
            given = {**row["training"], "betas": tuple(row["training"]["betas"])}
            parts = architectures.PARTS.get(row["architecture"], 1)
            assert TrainingConfig(**given) == dataclasses.replace(
                architectures.TRAINING, learning_rate=row["learning_rate"], seed=row["seed"], accumulation=parts
            )
            assert row["learning_rate"] == architectures.best_rate(architectures.RECORD, row["architecture"])

    def test_all_read_the_same_text(self):
        text = {row["text"]["sha256"] for row in self.rows if "text" in row}
        assert len(text) == 1

    def test_the_curves_are_whole_and_the_file_is_small(self):
        assert all(len(row["curve"]["step"]) >= 100 for row in self.rows if row["what"] in ("rates", "training"))
        assert architectures.RECORD.stat().st_size < 300_000
