"""`mamba2-lab evaluate`: figures on the screen and in JSON, for one's own files."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.many_tokenizers import byte_level
from support.small_models import small_model
from support.texts import bpe

from mamba2_lab import Mamba2LM, cli, load_tokenizer
from mamba2_lab.cli import evaluate
from mamba2_lab.data import Corpus, Document
from mamba2_lab.evaluation import COMPRESSORS, Reading
from mamba2_lab.text import ByteTokenizer, save
from mamba2_lab.training import bits_per_byte
from mamba2_lab.weights.stored import storage_of

TEXTS = {"a.txt": "hello\n", "sub/b.md": "ein längerer Text\n" * 9, "c.txt": "x"}
ONCE = "".join(f"the line number {i} of a text that is long enough\n" for i in range(12))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Files of one's own."""
    for name, text in TEXTS.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_text(text, encoding="utf-8")
    return tmp_path / "own"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """One that knows nothing: each of its tokens costs log2(257) bits."""
    uniform = small_model().cpu()
    with torch.no_grad():
        uniform.embedding.weight.zero_()
    uniform.save_pretrained(tmp_path / "uniform", tokenizer=ByteTokenizer())
    return tmp_path / "uniform"


def run(*options: object, status: int = 0) -> None:
    assert cli.main(["evaluate", "--device", "cpu", *map(str, options)]) == status


def figures(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_figures_of_each_file_and_of_all_beside_the_box_and_the_compressors(
    own: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("--model", model, "--data", own, "--json", tmp_path / "out.json")
    out, found = capsys.readouterr().out, figures(tmp_path / "out.json")
    names = [str(own / name) for name in sorted(TEXTS)]
    assert [row["name"] for row in found["files"]] == sorted(names)
    assert list(found["total"]["figures"]) == ["uniform", "small", "medium", "gzip", "xz"]
    texts = [Document(name, TEXTS[name]) for name in TEXTS]
    size = sum(text.bytes for text in texts)
    assert found["total"]["bytes"] == size and f"3 files, {size} bytes" in out
    total = {name: row["bits_per_byte"] for name, row in found["total"]["figures"].items()}
    assert total["uniform"] == pytest.approx(math.log2(257), rel=1e-6)
    assert found["total"]["figures"]["uniform"]["perplexity_per_token"] == pytest.approx(257, rel=1e-5)
    assert found["total"]["figures"]["uniform"]["tokens"] == size
    for name in ("small", "medium"):
        expected = bits_per_byte(Mamba2LM.from_pretrained(name), texts, load_tokenizer(name))
        assert total[name] == pytest.approx(expected, rel=1e-6)
        assert f"\n{name:7}         {expected:.4f}" in out
    for name, compress in COMPRESSORS.items():
        assert total[name] == 8 * sum(compress(text.text.encode()) for text in texts) / size
    for row in found["files"]:
        text = Path(row["name"]).read_bytes()
        assert row["bytes"] == len(text) and row["sha256"] == hashlib.sha256(text).hexdigest()
    assert found["complete"] and found["unreadable"] == [] and found["parameters"] > 0
    assert found["machine"]["torch"] == torch.__version__ and "end_of_text" in found["measured"]
    assert "nan" not in out and out.count(str(own)) == 3


def test_alone_one_file_has_one_table(own: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--model", model, "--alone", "--data", own / "c.txt")
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "1 file, 1 byte"
    assert [line.split()[0] for line in lines[4:]] == ["uniform", "gzip", "xz"]
    assert lines[4].split() == ["uniform", "8.0056", "257.00", "1.00"]


def test_a_file_counts_once_however_it_is_found_and_a_pattern_chooses(
    own: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = ["--model", model, "--alone", "--data"]
    run(*alone, own, own / "a.txt", own / "sub")
    assert "3 files, 178 bytes" in capsys.readouterr().out
    run(*alone, own, "--pattern", "*.md")
    assert "1 file, 171 bytes" in capsys.readouterr().out


def test_text_is_what_train_takes_for_text_and_the_rest_is_named(
    own: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own / "latin.txt").write_bytes(b"caf\xe9")
    (own / "nul.bin").write_bytes(b"a\0b")
    (own / "empty.txt").write_bytes(b"")
    (own / "windows.txt").write_bytes("é\r\nb".encode("utf-16"))
    run("--model", model, "--alone", "--data", own, "--json", tmp_path / "out.json")
    found = figures(tmp_path / "out.json")
    assert [Path(row["name"]).name for row in found["files"]] == ["a.txt", "c.txt", "b.md", "windows.txt"]
    assert found["files"][-1]["bytes"] == len("é\nb".encode())
    assert found["unreadable"] == [str(own / "latin.txt"), str(own / "nul.bin")]
    assert (
        f"left out, as no text in UTF-8 or marked UTF-16, or too large: {own / 'latin.txt'}, "
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("content", [b"", b"caf\xe9"])
def test_nothing_to_measure_is_refused(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "it").write_bytes(content)
    run("--model", model, "--alone", "--data", tmp_path / "it", "--json", tmp_path / "out.json", status=1)
    said = capsys.readouterr().err
    assert said == (
        "mamba2-lab evaluate: --data must be files and folders that hold text, at least one byte; "
        f"got {str(tmp_path / 'it')!r}\n"
    )
    assert not (tmp_path / "out.json").exists()


def test_what_cannot_be_is_told_before_anything_is_read(
    own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "_entrants", lambda *_: pytest.fail("a model was read"))
    for options, said in (
        (["--data", "/no/such"], "--data must be a file or a folder that is there; got '/no/such'"),
        (["--data", own, "--json", "/no/such/x"], "--json must be a file in a folder that is there; got '/no/such/x'"),
        (["--data", own, "--json", own], f"--json must be a file in a folder that is there; got {str(own)!r}"),
        (
            ["--data", own, "--json", own / "sub" / ".." / "a.txt"],
            f"--json must be no file of --data, which it would replace; got {str(own / 'sub' / '..' / 'a.txt')!r}",
        ),
        (["--data", own, "--device", "tpu"], "--device must be 'cpu', 'cuda' or 'mps'; got 'tpu'"),
    ):
        run(*options, status=1)
        assert capsys.readouterr() == ("", f"mamba2-lab evaluate: {said}\n")


def test_ctrl_c_shows_what_was_measured_until_then(
    own: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, done = Reading.read, []

    def breaking_off(*arguments: object) -> None:
        done.append(arguments)
        if len(done) == 3:
            raise KeyboardInterrupt
        read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Reading, "read", breaking_off)
    run("--model", model, "--alone", "--data", own, "--json", tmp_path / "out.json", status=130)
    out = capsys.readouterr().out
    assert "2 files, 7 bytes" in out and "stopped by Ctrl-C: the figures are of what was read until then" in out
    found = figures(tmp_path / "out.json")
    assert not found["complete"] and [row["bytes"] for row in found["files"]] == [6, 1]
    done[:] = [(), ()]
    run("--model", model, "--alone", "--data", own, "--json", tmp_path / "none.json", status=130)
    assert "bits" not in capsys.readouterr().out and not (tmp_path / "none.json").exists()


def test_files_that_the_box_may_have_learned_from_are_named(
    own: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "standard_library", lambda: Corpus((Document("lib.py", ONCE),), ()))
    (own / "copy.py").write_text(f"import os\n{ONCE}", encoding="utf-8")
    run("--model", model, "--data", own, "--json", tmp_path / "out.json")
    said = capsys.readouterr().out
    assert "small and medium learned from Python's library, which shares eight lines in a row or more with" in said
    assert f" {own / 'copy.py'}: there they remember" in said
    assert figures(tmp_path / "out.json")["may_have_been_learned"] == [str(own / "copy.py")]
    run("--model", model, "--alone", "--data", own)
    assert "learned from" not in capsys.readouterr().out


def test_a_tokenizer_is_given_beside_a_model_without_one_and_weights_by_name(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    published, bare = tmp_path / "published", tmp_path / "bare"
    published.mkdir()
    byte_level().save(str(published / "tokenizer.json"))
    (published / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}', encoding="utf-8")
    small_model(vocab_size=300).cpu().save_pretrained(bare)
    options = ["--model", bare, "--alone", "--data", own]
    loaded: list[Mamba2LM] = []
    load = Mamba2LM.from_pretrained.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        evaluate.MambaLM, "from_pretrained", classmethod(lambda *a, **o: loaded.append(load(*a, **o)) or loaded[-1])
    )
    run(*options, status=1)
    assert "--tokenizer must be given, as a folder or Hub id" in capsys.readouterr().err
    assert loaded == []
    run(*options, "--tokenizer", published, "--weights", "bfloat16")
    assert loaded[0].dtype == torch.bfloat16
    assert "3 files, 178 bytes" in capsys.readouterr().out
    run(*options, "--tokenizer", "bytes", "--weights", "int8", "--json", tmp_path / "out.json")
    assert storage_of(loaded[1]) == figures(tmp_path / "out.json")["weights"] == "int8"
    save(bpe(), tmp_path / "large")
    run(*options, "--tokenizer", tmp_path / "large", status=1)
    said = f"--tokenizer must be of at most 300 tokens, as the model is; got {bpe().vocab_size}"
    assert said in capsys.readouterr().err


def test_a_tokenizer_that_loses_text_is_told(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deaf(ByteTokenizer):
        def decode(self, ids: Any) -> str:
            return super().decode(ids).replace("x", "")

    monkeypatch.setattr(evaluate.weights, "load_tokenizer", lambda *_: Deaf())
    small_model().cpu().save_pretrained(tmp_path / "model")
    run("--model", tmp_path / "model", "--alone", "--data", own)
    said = f"model's tokenizer loses some of {own / 'c.txt'}, {own / 'sub/b.md'}: its figures are of a poorer text"
    assert said in capsys.readouterr().out
