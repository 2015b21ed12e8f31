"""`mamba2-lab convert`, as somebody at a keyboard meets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.families import family_model

from mamba2_lab import MambaLM, cli


def test_what_is_written_and_what_is_lost_is_said(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("gguf")
    target = tmp_path / "medium.gguf"
    assert cli.main(["convert", "medium", str(target), "--to", "gguf", "--dtype", "q8_0"]) == 0
    first, note, *more = capsys.readouterr().out.splitlines()
    parameters = MambaLM.from_pretrained("medium").num_parameters()
    assert first == f"{target}: {parameters:,} parameters, {target.stat().st_size / 1e6:.3g} MB"
    assert note.startswith("note: llama.cpp cuts text nearly as this tokenizer does, not quite") and more == []


def test_a_converted_model_is_a_model_again(tmp_path: Path, capsys: Any) -> None:
    written = []
    assert cli.main(["convert", "small", str(tmp_path / "theirs"), "--to", "transformers"]) == 0
    assert capsys.readouterr().err == ""
    for model in ("small", str(tmp_path / "theirs")):
        options = ["--temperature", "0", "--max-new-tokens", "12", "--device", "cpu"]
        assert cli.main(["generate", "def f(", "--model", model, *options]) == 0
        written.append(capsys.readouterr().out)
    assert written[0] == written[1]


def test_a_family_that_is_not_there_is_one_line(tmp_path: Path, capsys: Any) -> None:
    family_model("mamba3-siso").save_pretrained(tmp_path / "ours")
    assert cli.main(["convert", str(tmp_path / "ours"), str(tmp_path / "out.gguf"), "--to", "gguf"]) == 1
    message = "mamba2-lab convert: llama.cpp has a Mamba-1 or a Mamba-2 alone; got a model of mamba3\n"
    assert capsys.readouterr() == ("", message)
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]
