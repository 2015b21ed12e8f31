"""A session kept by one command is gone on with by the next: the texts on the screen are that of one run."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import torch
from support.families import NAMES, family_model

from mamba2_lab import MambaLM, cli
from mamba2_lab.sessions import load_session
from mamba2_lab.text import ByteTokenizer

GREEDY = ["--temperature", "0"]
INT8 = [*GREEDY, "--weights", "int8"]
DRAWN = ["--temperature", "1.2", "--repetition-penalty", "1.2", "--top-k", "40"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    family_model("hybrid").cpu().save_pretrained(tmp_path / "model", tokenizer=ByteTokenizer())
    return tmp_path / "model"


class Screen:
    """The command, and what it has written."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path | str) -> None:
        self.capsys, self.common = capsys, ["--model", str(folder), "--device", "cpu"]

    def __call__(self, *options: object, status: int = 0) -> str:
        assert cli.main(["generate", *map(str, options), *self.common]) == status
        captured = self.capsys.readouterr()
        self.said = captured.err
        return captured.out


@pytest.mark.parametrize(
    ("family", "settings"),
    [*((name, GREEDY) for name in NAMES), ("hybrid", DRAWN), ("hybrid", INT8)],
)
def test_two_runs_write_what_one_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], family: str, settings: list[str]
) -> None:
    family_model(family).cpu().save_pretrained(tmp_path / "model", tokenizer=ByteTokenizer())
    screen, kept = Screen(capsys, tmp_path / "model"), tmp_path / "kept"
    whole = screen("né", "--max-new-tokens", 12, "--seed", 3, *settings)
    first = screen("né", "--max-new-tokens", 5, "--seed", 3, *settings, "--save-state", kept)
    assert screen.said == f"to go on: --state {kept}\n"
    second = screen("--max-new-tokens", 7, *settings, "--state", kept)
    assert screen.said.startswith("going on behind 'n")
    assert first.removesuffix("\n").rstrip("\ufffd") + second == whole


def test_a_document_is_read_once_and_asked_again_and_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen, kept = Screen(capsys, folder), tmp_path / "kept"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("a long book, café\n".encode())))
    assert screen("-", "--max-new-tokens", 0, "--save-state", kept) == ""
    read: list[int] = []
    prefill = MambaLM.prefill

    def watched(self: MambaLM, ids: torch.Tensor, *rest: object, **options: object) -> object:
        read.append(ids.numel())
        return prefill(self, ids, *rest, **options)  # type: ignore[arg-type]

    for question in ("", "who?"):
        alone = screen(f"a long book, café\n{question}", *GREEDY, "--max-new-tokens", 9)
        monkeypatch.setattr(MambaLM, "prefill", watched)
        behind = screen(question, *GREEDY, "--max-new-tokens", 9, "--state", kept)
        monkeypatch.undo()
        assert "a long book, café\n" + behind == alone
        assert sum(read) == len(question)


def test_a_state_can_be_gone_on_with_in_its_place_and_is_as_it_was_where_it_is_only_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    screen, kept = Screen(capsys, folder), tmp_path / "kept"
    whole = screen("x", *GREEDY, "--max-new-tokens", 9)
    text = screen("x", *GREEDY, "--max-new-tokens", 3, "--save-state", kept)[:-1].rstrip("\ufffd")
    saved = kept.read_bytes()
    screen(*GREEDY, "--max-new-tokens", 3, "--state", kept)
    assert kept.read_bytes() == saved
    for _ in range(2):
        more = screen(*GREEDY, "--max-new-tokens", 3, "--state", kept, "--save-state", kept)
        text += more[:-1].rstrip("\ufffd")
    assert text == whole[:-1].rstrip("\ufffd")


def one_token(token: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor([token]), 257) * 100.0


def test_an_end_of_text_does_not_stand_between_the_text_and_what_comes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen, kept = Screen(capsys, folder), tmp_path / "kept"
    advance, prefill = MambaLM.advance, MambaLM.prefill
    monkeypatch.setattr(MambaLM, "prefill", lambda *a, **o: (one_token(ord("b")), prefill(*a, **o)[1]))
    monkeypatch.setattr(MambaLM, "advance", lambda *a, **o: (one_token(256), advance(*a, **o)[1]))
    assert screen("a", "--save-state", kept) == "ab\n"
    session = load_session(kept, MambaLM.from_pretrained(folder), ByteTokenizer())
    assert session.position.unread is None and session.recent == (256, *b"ab")
    assert int(session.position.cache.tokens_read) == 3
    assert screen("--state", kept) == "\n"  # it has ended
    monkeypatch.undo()
    assert screen("c", *GREEDY, "--max-new-tokens", 4, "--state", kept) == "c" + screen(
        "abc", *GREEDY, "--max-new-tokens", 4
    ).removeprefix("abc")


def test_a_stop_text_was_read_and_is_shown_first_where_it_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    screen, kept = Screen(capsys, "small"), tmp_path / "kept"
    whole = screen("def f(", *GREEDY, "--max-new-tokens", 30)[:-1]
    stop = whole[12:15]
    first = screen("def f(", *GREEDY, "--stop", stop, "--save-state", kept)[:-1]
    assert whole.startswith(first + stop)
    read_only = screen("--state", kept, "--save-state", kept, "--max-new-tokens", 0)
    assert read_only == ""
    second = screen(*GREEDY, "--state", kept, "--max-new-tokens", len(whole) - len(first) - len(stop))[:-1]
    assert first + second == whole


@pytest.mark.parametrize(("error", "status"), [(ValueError("odd logits"), 1), (KeyboardInterrupt(), 130)])
def test_what_breaks_a_text_off_leaves_a_state_of_what_was_written(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
) -> None:
    screen, kept = Screen(capsys, "small"), tmp_path / "kept"
    whole = screen("def f(", *GREEDY, "--max-new-tokens", 9)
    advance, calls = MambaLM.advance, []

    def breaking_off(*arguments: object, use_up: bool) -> object:
        calls.append(arguments)
        if len(calls) == 4:
            raise error
        return advance(*arguments, use_up=use_up)  # type: ignore[arg-type]

    monkeypatch.setattr(MambaLM, "advance", breaking_off)
    first = screen("def f(", *GREEDY, "--save-state", kept, status=status)[:-1]
    monkeypatch.undo()
    assert whole.startswith(first) and len(first) == len("def f(") + 4
    assert first + screen(*GREEDY, "--state", kept, "--max-new-tokens", 5) == whole


def test_what_cannot_be_is_told_before_anything_is_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MambaLM, "from_pretrained", lambda *_, **__: pytest.fail("the model was read"))
    screen, book = Screen(capsys, folder), tmp_path / "book.txt"
    book.write_text("Once", encoding="utf-8")
    for options, said in (
        (("--save-state", book), f"--save-state must be a new file, or that of a session; got {str(book)!r}"),
        (("--save-state", tmp_path), f"--save-state must be a new file, or that of a session; got {str(tmp_path)!r}"),
        (("--save-state", "/no/such"), "--save-state must be a file in a folder that is there; got '/no/such'"),
        (("--state", "/no/such"), "--state must be a file of --save-state; got '/no/such'"),
    ):
        assert screen(*options, status=1) == ""
        assert screen.said == f"mamba2-lab generate: {said}\n"
    assert book.read_text(encoding="utf-8") == "Once"
