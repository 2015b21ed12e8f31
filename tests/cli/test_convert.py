"""`mamba2-lab convert`, as somebody at a keyboard meets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.families import family_model
from support.hub_server import TOKEN, HubServer
from support.many_tokenizers import codestral_like
from support.small_models import small_model

from mamba2_lab import Mamba2LM, MambaLM, cli, load_tokenizer, weights
from mamba2_lab.text import save


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


# A tokenizer for a model without one


def test_a_model_without_a_tokenizer_takes_the_one_that_is_given(tmp_path: Path, capsys: Any) -> None:
    small_model(vocab_size=300).save_pretrained(tmp_path / "bare")
    save(codestral_like(), tmp_path / "given")
    command = ["convert", str(tmp_path / "bare"), str(tmp_path / "out"), "--to", "transformers", "--tokenizer"]
    assert cli.main([*command, str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith(f"mamba2-lab convert: no tokenizer at '{tmp_path / 'none'}'")
    assert not (tmp_path / "out").exists()
    assert cli.main([*command, str(tmp_path / "given")]) == 0
    assert "without a tokenizer" not in capsys.readouterr().out
    written = load_tokenizer(tmp_path / "out")
    text = "hello, 日"
    assert written.encode(text) == codestral_like().encode(text) and written.opening == codestral_like().opening


# To the Hub


IDS = torch.tensor([[1, 2, 3, 40]])
PUSH = ["--to", "transformers", "--push", "owner/name"]


@pytest.fixture
def logged_in(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


def push(tmp_path: Path, *options: str, status: int = 0) -> None:
    assert cli.main(["convert", "small", str(tmp_path / "out"), *PUSH, *options]) == status


def test_what_would_go_to_the_hub_is_said_and_nothing_goes(logged_in: HubServer, tmp_path: Path, capsys: Any) -> None:
    push(tmp_path)
    first, empty, plan, *files = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{tmp_path / 'out'}: ") and empty == ""
    assert plan.startswith("would go to owner/name (private): ") and plan.endswith("; nothing was uploaded")
    assert {"model.safetensors", "tokenizer.json", "README.md"} < {line.split()[0] for line in files if line}
    assert files[-1] == f"{tmp_path / 'out'} was taken away again; to write and upload it: the same with --really"
    assert logged_in.requests == [] and list(tmp_path.iterdir()) == []
    push(tmp_path, "--really")
    assert set(logged_in.files("owner/name")) == {line.split()[0] for line in files[:-2]} | {".gitattributes"}


def test_a_file_that_would_go_to_the_hub_is_taken_away_too(hub: HubServer, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    assert cli.main(["convert", "small", str(tmp_path / "out.gguf"), "--to", "gguf", "--push", "owner/name"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_cannot_be_published_is_taken_away_as_well(hub: HubServer, tmp_path: Path, capsys: Any) -> None:
    written = "---\nlicense: mit\n---\n# Mine\n"
    small_model().save_pretrained(tmp_path / "ours")
    (tmp_path / "ours" / "README.md").write_text(written, encoding="utf-8")
    assert cli.main(["convert", str(tmp_path / "ours"), str(tmp_path / "out"), *PUSH, "--licence", "mit"]) == 1
    assert "--licence must be left out, for " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


@pytest.mark.parametrize("private", [True, False])
def test_what_is_really_meant_goes_with_a_card_made_from_the_record(
    logged_in: HubServer, tmp_path: Path, capsys: Any, private: bool
) -> None:
    push(tmp_path, "--really", "--licence", "apache-2.0", *([] if private else ["--public"]))
    out = capsys.readouterr().out
    kind = "private" if private else "public"
    assert f"\nuploaded to {logged_in.url}/owner/name ({kind}): " in out and "to upload it" not in out
    assert logged_in.repositories["owner/name"].private == private
    arrived = logged_in.files("owner/name")
    for path in (tmp_path / "out").iterdir():
        assert arrived[path.name] == path.read_bytes()
    card = arrived["README.md"].decode()
    assert card.startswith("---\nlibrary_name: transformers\nlicense: apache-2.0\n")
    page = (weights.BOX / "small" / "README.md").read_text(encoding="utf-8")
    assert card.endswith(page), "the record is that of the source, not of what was written"
    ours, theirs = Mamba2LM.from_pretrained("small"), Mamba2LM.from_pretrained("owner/name")
    assert torch.equal(ours(IDS), theirs(IDS))


def test_what_cannot_go_is_refused_before_anything_is_written(hub: HubServer, tmp_path: Path, capsys: Any) -> None:
    alone = ["convert", "small", str(tmp_path / "out"), "--to", "mlx"]
    for options, said in (
        (["--really"], "--really must be left out without --push; got True"),
        (["--public"], "--public must be left out without --push; got True"),
        (["--licence", "mit"], "--licence must be left out without --push; got 'mit'"),
        (["--push", "name"], "--push must be the id of a repository, owner/name; got 'name'"),
        (["--push", "a/b", "--really"], "to upload, log in with `hf auth login`, by a token that may write, or set "),
    ):
        assert cli.main([*alone, *options]) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith(f"mamba2-lab convert: {said}") and captured.out == ""
        assert list(tmp_path.iterdir()) == [] and hub.requests == []


def test_what_is_private_does_not_go_to_a_public_place(logged_in: HubServer, tmp_path: Path, capsys: Any) -> None:
    logged_in.put("owner/name", {"README.md": b"public"}, private=False)
    push(tmp_path, "--really", status=1)
    said = "--push must be a new repository or a private one, with no --public; got 'owner/name'\n"
    assert capsys.readouterr().err == f"mamba2-lab convert: {said}"
    assert logged_in.files("owner/name") == {"README.md": b"public"}
