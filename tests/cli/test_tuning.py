"""`mamba2-lab train --from`: a model goes on to learn, with its own tokenizer, whole or by adapters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.families import each_family, family_model
from support.many_tokenizers import codestral_like
from support.small_models import small_model

from mamba2_lab import MambaLM, cli, load_tokenizer
from mamba2_lab.cli import train
from mamba2_lab.data import pack, text_files
from mamba2_lab.text import BPETokenizer, ByteTokenizer, save
from mamba2_lab.training import bits_per_byte, run_folder

QUICK = "--steps 3 --batch-size 2 --length 16 --warmup-steps 1 --device cpu".split()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A text of one's own."""
    path = tmp_path / "own.txt"
    path.write_text("".join(f"line {i} is as good as {i * i}\n" for i in range(80)), encoding="utf-8")
    return path


def base(tmp_path: Path, family: str = "hybrid") -> Path:
    """A model to begin with."""
    folder = tmp_path / "base"
    family_model(family).save_pretrained(folder, tokenizer=ByteTokenizer())
    return folder


def tune(tmp_path: Path, own: Path, *options: str, status: int = 0) -> Path:
    folder = tmp_path / "run"
    command = ["train", *QUICK, "--data", str(own), "--folder", str(folder), *options]
    assert cli.main(command) == status
    return folder


@each_family
def test_a_model_of_any_family_goes_on_and_what_it_could_before_is_told(
    family: str, tmp_path: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun_with = base(tmp_path, family)
    folder = tune(tmp_path, own, "--from", str(begun_with))
    (saved,) = run_folder.checkpoints(folder)
    facts = json.loads((saved / "run.json").read_text(encoding="utf-8"))
    assert (facts["origin"], facts["frozen"], facts["training"]["lora"]) == (str(begun_with), None, 0)
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()]
    before, *later = (record["bits_per_byte_before"] for record in records)
    held_out, after = text_files(own).held_out, records[-1]["bits_per_byte"]
    assert later == [None, None]
    for source, bits in ((begun_with, before), (folder, after)):
        measured = bits_per_byte(MambaLM.from_pretrained(source), held_out, ByteTokenizer())
        assert bits == pytest.approx(measured, rel=1e-6)
    assert after < before
    said = capsys.readouterr().out
    assert f"{after:.4f} bits per byte on held-out files, {before:.4f} before the first step" in said
    assert "of memory: " in said


def test_adapters_leave_a_model_that_writes_and_converts_as_any_other(
    tmp_path: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun_with = base(tmp_path)
    folder = tune(tmp_path, own, "--from", str(begun_with), "--lora", "2", "--learning-rate", "0.05")
    assert f"let it write: mamba2-lab generate --model {folder / 'merged'}\n" in capsys.readouterr().out
    (saved,) = run_folder.checkpoints(folder)
    config = json.loads((saved / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["base_model_name_or_path"], config["r"], config["lora_alpha"]) == (str(begun_with), 2, 4)
    merged, by_adapters, before = (
        MambaLM.from_pretrained(path).state_dict() for path in (folder / "merged", saved, begun_with)
    )
    for name, weight in merged.items():
        torch.testing.assert_close(by_adapters[name], weight, rtol=0, atol=1e-6)
    assert not torch.equal(merged["layers.0.mixer.in_proj.weight"], before["layers.0.mixer.in_proj.weight"])
    assert torch.equal(merged["embedding.weight"], before["embedding.weight"])
    written = []
    for model in (folder / "merged", saved, folder):
        command = ["generate", "line", "--model", str(model), "--max-new-tokens", "9", "--temperature", "0"]
        assert cli.main(command) == 0
        written.append(capsys.readouterr().out)
    assert len(set(written)) == 1


@pytest.mark.parametrize("options", [[], ["--lora", "2"]], ids=["whole", "lora"])
def test_a_tuning_goes_on_and_with_its_own_model_only(
    options: list[str], tmp_path: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun_with = str(base(tmp_path))
    folder = tune(tmp_path, own, "--from", begun_with, *options)
    longer = ["--resume", "--steps", "4", *options]
    capsys.readouterr()
    tune(tmp_path, own, *longer, "--from", "small", status=1)
    said = capsys.readouterr().err
    assert said.startswith(f"mamba2-lab train: --from must be {begun_with!r}, as in the run to resume at ")
    assert said.endswith("; got 'small'\n") and said.count("\n") == 1
    tune(tmp_path, own, *longer, "--from", begun_with)
    assert [path.name for path in run_folder.checkpoints(folder)] == ["step-000004"]
    records = (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in records] == [0, 1, 2, 3]


def test_a_run_from_scratch_does_not_go_on_from_a_model(
    tmp_path: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_model().save_pretrained(tmp_path / "base", tokenizer=ByteTokenizer())
    tune(tmp_path, own)
    capsys.readouterr()
    tune(tmp_path, own, "--resume", "--steps", "4", "--from", str(tmp_path / "base"), status=1)
    assert "--from must be left out, as in the run to resume at" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        (["--preset", "small"], "--preset must be left out with --from, whose shape is its own; got 'small'"),
        (
            ["--tokenizer", "300"],
            "--tokenizer must be left out with --from, or that model's own: its ids have that meaning; got '300'",
        ),
        (["--lora", "-1"], "--lora must be 0 or more; got -1"),
        (["--lora", "two"], "--lora must be a whole number; got 'two'"),
    ],
)
def test_what_a_model_does_not_go_on_with_is_refused(
    options: list[str], message: str, tmp_path: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tune(tmp_path, own, "--from", str(base(tmp_path)), *options, status=1)
    assert capsys.readouterr().err == f"mamba2-lab train: {message}\n"
    assert not folder.exists()


def test_adapters_need_a_model(tmp_path: Path, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tune(tmp_path, own, "--lora", "2", status=1)
    assert "--lora must be left out without --from: it adapts what was learned; got 2" in capsys.readouterr().err


def test_the_tokenizer_is_the_models_own_or_given_to_one_without(
    tmp_path: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learned = BPETokenizer.train([own.read_text(encoding="utf-8")], 270)
    size = learned.vocab_size
    small_model(vocab_size=size).save_pretrained(tmp_path / "own", tokenizer=learned)
    small_model().save_pretrained(tmp_path / "without")
    run = tune(tmp_path / "1", own, "--from", str(tmp_path / "own"), "--tokenizer", str(size))
    assert load_tokenizer(run).to_dict() == learned.to_dict(), "and not one that was learned anew"
    tune(tmp_path / "2", own, "--from", str(tmp_path / "without"), status=1)
    assert "has no tokenizer" in capsys.readouterr().err
    run = tune(tmp_path / "3", own, "--from", str(tmp_path / "without"), "--tokenizer", "bytes")
    assert load_tokenizer(run).to_dict() == {"type": "bytes"}
    small_model(vocab_size=200).save_pretrained(tmp_path / "less")
    tune(tmp_path / "4", own, "--from", str(tmp_path / "less"), "--tokenizer", "bytes", status=1)
    assert "--tokenizer must be of at most 200 tokens, as the model is; got 257" in capsys.readouterr().err


def test_documents_open_as_the_texts_of_a_published_model_do(
    tmp_path: Path, own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own tokenizer may be named, even where it came without one."""
    tokenizer, packed = codestral_like(), []
    monkeypatch.setattr(train, "pack", lambda *arguments: packed.append(pack(*arguments)) or packed[-1])
    model = small_model(vocab_size=tokenizer.vocab_size)
    save(tokenizer, tmp_path / "tokenizer")
    model.save_pretrained(tmp_path / "with", tokenizer=tokenizer)
    model.save_pretrained(tmp_path / "without")
    named = ["--tokenizer", str(tmp_path / "tokenizer")]
    for i, options in enumerate((["with"], ["with", *named], ["without", *named])):
        run = tune(tmp_path / str(i), own, "--from", str(tmp_path / options[0]), *options[1:])
        assert load_tokenizer(run).to_dict() == tokenizer.to_dict()
        assert packed[-1].ids[[0, -1]].tolist() == [*tokenizer.opening, tokenizer.end_of_text]
    again = tune(tmp_path / "new", own, *named)
    assert packed[-1].ids[0] == tokenizer.end_of_text, "what is trained here opens with the end of text"
    tune(tmp_path / "4", own, "--from", str(again), *named)
    assert load_tokenizer(tmp_path / "4" / "run").opening == (tokenizer.end_of_text,)
