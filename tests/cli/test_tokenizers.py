"""--tokenizer on the command line: for models that come without one, and for a training from nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.many_tokenizers import byte_level, codestral_like
from support.published import PUBLISHED
from support.small_models import small_model
from support.texts import bpe

import mamba2_lab
from mamba2_lab import Mamba2LM, cli, load_tokenizer, stream, text
from mamba2_lab.cli import generate
from mamba2_lab.text import HuggingFaceTokenizer, prompt_ids, save_for_transformers

NEOX = "EleutherAI/gpt-neox-20b"
QUICK = "--max-new-tokens 12 --seed 3 --device cpu".split()


@pytest.fixture
def model(tmp_path) -> Path:
    """The folder of one that comes without a tokenizer."""
    small_model(vocab_size=700).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def written(folder: Path, tokenizer, prompt: str) -> str:
    """What the model writes, by the package alone."""
    model = Mamba2LM.from_pretrained(folder)
    options = {"max_new_tokens": 12, "seed": 3, "temperature": 0.7, "stop": tokenizer.end_of_text}
    tokens = stream(model, prompt_ids(tokenizer, prompt), tokenizer=tokenizer, **options)
    said = "".join(token.text for token in tokens)
    return f"{prompt}{said}{'' if tokens.finish_reason == 'stop' else tokens.rest}\n"


@pytest.mark.parametrize("kind", ["bytes", "ours", "theirs", "theirs, opened by <s>", "of the Hub"])
def test_a_model_without_a_tokenizer_writes_with_the_one_it_is_given(model, tmp_path, hub, capsys, monkeypatch, kind):
    read = []
    monkeypatch.setattr(
        generate, "stream", lambda model, ids, **options: read.append(ids) or stream(model, ids, **options)
    )
    name, tokenizer = str(tmp_path / "given"), bpe()
    if kind == "bytes":
        name, tokenizer = "bytes", text.ByteTokenizer()
    elif kind == "ours":
        text.save(bpe(), name)
    elif kind == "theirs":
        save_for_transformers(bpe(), name)
    elif kind == "theirs, opened by <s>":
        tokenizer = codestral_like()
        save_for_transformers(tokenizer, name)
    else:
        text.save(bpe(), name)
        hub.put(name := "owner/tokenizer", tmp_path / "given")
    assert cli.main(["generate", "def f(", "--model", str(model), "--tokenizer", name, *QUICK]) == 0
    out = capsys.readouterr().out
    assert out == written(model, tokenizer, "def f(")
    assert len(out) > len("def f(\n"), "or this shows nothing"
    assert read == [prompt_ids(tokenizer, "def f(")]


def test_an_official_model_is_read_with_the_tokenizer_that_it_was_trained_with(tmp_path, hub, capsys):
    """Both are fetched by their ids: a pickle and its config there, a tokenizer here."""
    name = "state-spaces/mamba2-130m"
    PUBLISHED[name].write(tmp_path / "model", vocab_size=50277)
    hub.put(name, tmp_path / "model")
    save_for_transformers(HuggingFaceTokenizer(byte_level(), "<|endoftext|>"), tmp_path / "neox")
    hub.put(NEOX, tmp_path / "neox")
    tokenizer = load_tokenizer(tmp_path / "neox")
    assert tokenizer.opening == (), "GPT-NeoX's files put nothing before a text"
    for prompt in ("ab", ""):
        assert cli.main(["generate", prompt, "--model", name, *QUICK]) == 0
        assert capsys.readouterr().out == written(tmp_path / "model", tokenizer, prompt)


def test_so_it_is_in_a_process_of_its_own(model, tmp_path):
    text.save(bpe(), tmp_path / "given")
    environment = {**os.environ, "PYTHONPATH": str(Path(mamba2_lab.__file__).parents[1]), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "mamba2_lab", "generate", "def f(", "--model", str(model), *QUICK]
    done = subprocess.run([*command, "--tokenizer", str(tmp_path / "given")], env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode("utf-8").replace(os.linesep, "\n") == written(model, bpe(), "def f(")


def test_without_one_it_says_which_flag_to_use(model, capsys):
    assert cli.main(["generate", "def f(", "--model", str(model), *QUICK]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "mamba2-lab generate: --tokenizer must be given, as a folder or Hub id, for a model that comes without one "
        f"({model} has no tokenizer: expected a file mamba2_lab_tokenizer.json or tokenizer.json); got {str(model)!r}\n"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("owner/none", "no tokenizer at 'owner/none': no such folder, and no such repository on the Hub"),
        ("EMPTY", "EMPTY has no tokenizer: expected a file mamba2_lab_tokenizer.json or tokenizer.json"),
        ("LARGE", "--tokenizer must be of at most 700 tokens, as the model is; got 1000"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_one_line_in_the_words_of_the_flags(
    model, tmp_path, hub, capsys, monkeypatch, given, message
):
    monkeypatch.chdir(tmp_path)
    Path("EMPTY").mkdir()
    text.save(text.BPETokenizer.train([Path(cli.__file__).with_name("train.py").read_text()], 1000), "LARGE")
    assert cli.main(["generate", "a", "--model", str(model), "--tokenizer", given, *QUICK]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"mamba2-lab generate: {message}") and captured.err.count("\n") == 1
    assert captured.out == "" and "None" not in captured.err


def test_a_training_takes_the_same_names_and_its_model_begins_as_its_documents_did(tmp_path, hub, capsys):
    (tmp_path / "text.txt").write_text("a rose is a rose is a rose\n" * 40, encoding="utf-8")
    save_for_transformers(codestral_like(), tmp_path / "published")
    hub.put("owner/published", tmp_path / "published")
    text.save(bpe(), tmp_path / "ours")
    options = f"--steps 1 --batch-size 1 --length 8 --device cpu --data {tmp_path / 'text.txt'}".split()
    for i, name in enumerate(["bytes", str(tmp_path / "ours"), "owner/published"]):
        run = tmp_path / f"run-{i}"
        assert cli.main(["train", *options, "--folder", str(run), "--tokenizer", name]) == 0
        tokenizer = load_tokenizer(run)
        assert tokenizer.vocab_size == text.find(name).vocab_size
        assert tokenizer.opening == (tokenizer.end_of_text,)
        assert cli.main(["train", *options, "--folder", str(run), "--tokenizer", name, "--resume"]) == 0
    capsys.readouterr()
    assert cli.main(["generate", "a", "--model", str(run), "--tokenizer", "owner/published", *QUICK]) == 0
