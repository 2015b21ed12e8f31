"""The command line trains any preset, and lets models of every family write."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.families import NAMES, each_family, family_config, family_model

from mamba2_lab import MambaLM, cli
from mamba2_lab.config import PRESETS
from mamba2_lab.text import ByteTokenizer


@each_family
def test_generate_writes_with_a_folder_of_every_family(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], family: str
) -> None:
    model, tokenizer = family_model(family).cpu(), ByteTokenizer()
    model.save_pretrained(tmp_path, tokenizer=tokenizer)
    options = ["--model", str(tmp_path), "--temperature", "0", "--device", "cpu", "--max-new-tokens", "8"]
    assert cli.main(["generate", "def f(", *options]) == 0
    ids = [tokenizer.end_of_text, *tokenizer.encode("def f(")]
    written = model.generate(torch.tensor([ids]), max_new_tokens=8, temperature=0, stop=tokenizer.end_of_text)[
        0, len(ids) :
    ]
    text = tokenizer.decode([token for token in written.tolist() if token != tokenizer.end_of_text])
    assert capsys.readouterr().out == f"def f({text}\n"


@pytest.mark.parametrize("family", [name for name in NAMES if name != "mamba2"])
def test_train_takes_a_preset_of_any_mixers_and_goes_on_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    text = tmp_path / "text.py"
    text.write_text("x = 1\n" * 200, encoding="utf-8")
    monkeypatch.setitem(PRESETS, "mamba3-siso-187m", family_config(family).to_dict())  # as small as can be
    command = ["train", "--folder", str(tmp_path / "run"), "--data", str(text), "--preset", "mamba3-siso-187m"]
    command += ["--device", "cpu", "--batch-size", "2", "--length", "8", "--steps"]
    assert cli.main([*command, "2"]) == 0
    assert cli.main([*command, "3", "--resume"]) == 0
    out = capsys.readouterr().out
    assert f"{MambaLM(family_config(family), device='meta').num_parameters():,} parameters" in out
    assert "going on from" in out
    assert MambaLM.from_pretrained(tmp_path / "run").config == family_config(family)


def test_the_help_names_every_preset_in_lines_that_fit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    lines = capsys.readouterr().out.splitlines()
    named = [name.strip() for line in lines[lines.index("presets:") + 1 :] for name in line.split(",")]
    assert named[: len(PRESETS)] == list(PRESETS)
    assert max(map(len, lines)) <= 80
