"""A text put away and gone on with is the text of one run; what is no session of this model is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from support.families import each_family, family_model
from support.many_tokenizers import gpt_like, llama_like
from support.oracle.mamba2 import raises
from support.small_models import small_model

from mamba2_lab import MambaLM, SamplingConfig, stream
from mamba2_lab.generation import Position, Stream, go_on
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.sessions import RECENT, Session, load_session, may_be_written, save_session, text_behind
from mamba2_lab.text import ByteTokenizer, Tokenizer
from mamba2_lab.weights.identity import digest_of_model

BYTES = ByteTokenizer()
GREEDY, DRAWN = SamplingConfig(temperature=0), SamplingConfig(1.5, 50, 0.99, None, 1.3)
PROMPT = [256, *"né".encode()]


def drain(tokens: Stream) -> list[int]:
    return [token.id for token in tokens]


def by_file(path: Path, session: Session, model: MambaLM, tokenizer: Tokenizer = BYTES) -> Session:
    save_session(session, path, model, tokenizer)
    return load_session(path, model, tokenizer)


@each_family
@pytest.mark.parametrize("settings", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_going_on_is_one_run_whatever_the_split(tmp_path: Path, family: str, settings: SamplingConfig) -> None:
    """Also before the first new token, where the logits alone are left of what was read."""
    model = family_model(family)
    whole = drain(stream(model, PROMPT, max_new_tokens=4, seed=3, **vars(settings)))
    for split in (0, 1, 3, 4):
        first = stream(model, PROMPT, max_new_tokens=split, seed=3, **vars(settings))
        ids = drain(first)
        session = by_file(tmp_path / "kept", Session(first.position, (*PROMPT, *ids)), model)
        assert session.recent == (*PROMPT, *ids)
        ids += drain(go_on(model, session.position, max_new_tokens=4 - split, settings=settings))
        assert ids == whole


@each_family
@pytest.mark.parametrize("new", [0, 2])
def test_a_prompt_behind_a_session_is_read_as_if_all_had_been_one_prompt(tmp_path: Path, family: str, new: int) -> None:
    model, more = family_model(family), [*"é: ".encode()]
    first = stream(model, PROMPT, max_new_tokens=new, temperature=0)
    ids = drain(first)
    session = by_file(tmp_path / "kept", Session(first.position, (*PROMPT, *ids)), model)
    after = go_on(model, session.position, more, max_new_tokens=4, settings=DRAWN, seed=1)
    expected = stream(model, [*PROMPT, *ids, *more], max_new_tokens=4, seed=1, **vars(DRAWN))
    assert drain(after) == drain(expected)  # the repetition penalty counts what the session has seen


def test_a_seed_begins_the_draws_anew(tmp_path: Path) -> None:
    model = small_model()
    first = stream(model, PROMPT, max_new_tokens=3, seed=3)
    drain(first)
    session = by_file(tmp_path / "kept", Session(first.position, ()), model)
    options: dict[str, Any] = {"max_new_tokens": 20, "settings": SamplingConfig()}
    runs = [drain(go_on(model, session.position, seed=seed, **options)) for seed in (7, 7, 8, None)]
    assert runs[0] == runs[1] != runs[2] and runs[3] not in runs[:3]


@pytest.mark.parametrize("tokenizer", [BYTES, gpt_like(), llama_like()], ids=["bytes", "gpt", "llama"])
def test_a_character_that_a_split_cuts_is_whole_where_it_ends(tokenizer: Tokenizer) -> None:
    text = "a é日🐍b"
    ids = tokenizer.encode(text)
    model = small_model(vocab_size=tokenizer.vocab_size)
    for split in range(1, len(ids)):
        writer, left = Writes(model.config), ids[split:]
        writer.to_come = left[1:]
        position = stream(model, ids[:split], max_new_tokens=0).position._replace(logits=writer.logits_of(left[0]))
        options: dict[str, Any] = {"max_new_tokens": len(left), "settings": GREEDY}
        tokens = go_on(writer, position, tokenizer=tokenizer, before=ids[:split], **options)
        shown = tokenizer.decode(ids[:split]).rstrip("\ufffd")
        assert shown + "".join(token.text for token in tokens) == text


class Writes(MambaLM):
    """A model that writes the tokens it is told to."""

    to_come: list[int]

    def advance(self, tokens: torch.Tensor, cache: Any, use_up: bool = False) -> Any:
        return self.logits_of(self.to_come.pop(0)), cache

    def logits_of(self, token: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor([token]), self.config.vocab_size) * 100.0


def test_only_the_end_of_a_text_is_kept_as_text(tmp_path: Path) -> None:
    model, ids = small_model(), list(b"ab" * RECENT)
    position = stream(model, ids, max_new_tokens=0).position
    session = by_file(tmp_path / "kept", Session(position, tuple(ids), "é\n"), model)
    assert session.recent == tuple(ids[-RECENT:]) and session.unshown == "é\n"
    assert int(session.position.cache.tokens_read) == 2 * RECENT
    assert text_behind(session._replace(recent=(97, *"é".encode()[:1])), BYTES) == "a"


# What is refused


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, MambaLM]:
    model = family_model("hybrid").cpu()
    tokens = stream(model, PROMPT, max_new_tokens=2, seed=3)
    save_session(Session(tokens.position, tuple(PROMPT)), tmp_path / "kept", model, BYTES)
    return tmp_path / "kept", model


def test_another_model_or_tokenizer_is_told(kept: tuple[Path, MambaLM]) -> None:
    path, model = kept
    with raises(CheckpointError, str(path), "n_layer: expected a session of a model with 2; found 4"):
        load_session(path, small_model(), BYTES)
    with raises(CheckpointError, str(path), "expected a session of this model; found one of another"):
        load_session(path, family_model("hybrid", seed=1).cpu(), BYTES)
    with raises(CheckpointError, "expected a session of this model; found one of another"):
        load_session(path, family_model("hybrid").cpu().bfloat16(), BYTES)
    with raises(CheckpointError, "expected a session of this tokenizer; found one of another"):
        load_session(path, model, gpt_like())


WRONG: list[tuple[str, torch.Tensor | None, str]] = [
    ("logits", torch.zeros(1, 256), "logits: expected (1, 257); found (1, 256)"),
    ("logits", torch.zeros(2**20), "logits: expected (1, 257); found (1048576,)"),
    ("logits", None, "logits: expected (1, 257); found none"),
    ("logits", torch.zeros(1, 257, dtype=torch.long), "logits: expected torch.float32; found torch.int64"),
    ("logits", torch.zeros(1, 257, dtype=torch.float8_e5m2), "logits: expected one of F64, F32, F16, BF16, BOOL, I64"),
    ("seen", torch.zeros(1, 257), "seen: expected torch.bool; found torch.float32"),
    ("recent", torch.zeros(RECENT + 1).long(), f"recent: expected ({RECENT},); found ({RECENT + 1},)"),
    ("recent", torch.tensor([-1]), "recent: expected tokens of this model; found others"),
    ("unread", torch.tensor([257]), "unread: expected tokens of this model; found others"),
    ("unread", torch.tensor([1, 2]), "unread: expected (1,); found (2,)"),
    ("generator", torch.zeros(5056, dtype=torch.uint8), "generator: expected the state of a generator; found"),
    ("generator", torch.zeros(9, dtype=torch.uint8), "generator: expected (5056,); found (9,)"),
    ("code", torch.zeros(1), "code: expected no such tensor; found (1,)"),
    ("tokens_read", torch.zeros(1), "tokens_read: expected torch.int64; found torch.float32"),
    ("layers.1.real", torch.zeros(1, 9) > 0, "layers.1.real: expected (1, 4); found (1, 9)"),
    (
        "layers.3.ssm_state",
        torch.zeros(1, 4, 8, 8).long(),
        "layers.3.ssm_state: expected torch.float32; found torch.int64",
    ),
]


@pytest.mark.parametrize(("name", "value", "said"), WRONG, ids=[said[:30] for *_, said in WRONG])
def test_what_a_stranger_changed_is_named(
    kept: tuple[Path, MambaLM], name: str, value: torch.Tensor | None, said: str
) -> None:
    path, model = kept
    with safetensors.safe_open(path, framework="pt") as file:
        metadata, held = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    changed = {**held, name: value}
    safetensors.torch.save_file({name: value for name, value in changed.items() if value is not None}, path, metadata)
    with raises(CheckpointError, str(path), said):
        load_session(path, model, BYTES)


def test_nothing_is_read_before_all_was_looked_at(kept: tuple[Path, MambaLM], monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor of many gigabytes in a file that is mostly a hole costs nothing."""
    path, model = kept
    header = b'{"logits":{"dtype":"F32","shape":[1,500000000],"data_offsets":[0,2000000000]},"__metadata__":%s}'
    with safetensors.safe_open(path, framework="pt") as file:
        header %= json.dumps(file.metadata()).encode()
    with path.open("wb") as written:
        written.write(len(header).to_bytes(8, "little") + header)
        written.truncate(8 + len(header) + 2 * 10**9)
    monkeypatch.setattr(torch.Tensor, "clone", lambda *_: pytest.fail("a tensor was read"))
    with raises(CheckpointError, "logits: expected (1, 257); found (1, 500000000)"):
        load_session(path, model, BYTES)


def test_files_that_are_no_sessions_are_refused_and_never_written_over(tmp_path: Path) -> None:
    model, path = small_model(), tmp_path / "file"
    assert may_be_written(path)
    with raises(FileNotFoundError, "no session at", str(path)):
        load_session(path, model, BYTES)
    path.write_text("a book", encoding="utf-8")
    assert not may_be_written(path) and not may_be_written(tmp_path)
    with raises(CheckpointError, str(path), "expected a session, a safetensors file"):
        load_session(path, model, BYTES)
    safetensors.torch.save_file({"w": torch.ones(2)}, path)
    assert not may_be_written(path)
    with raises(CheckpointError, "expected a session that save_session wrote; found another safetensors file"):
        load_session(path, model, BYTES)
    save_session(Session(stream(model, PROMPT, max_new_tokens=0).position, ()), path, model, BYTES)
    assert may_be_written(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with raises(CheckpointError, str(path), "expected a session, a safetensors file"):
        load_session(path, model, BYTES)


def test_more_than_one_row_is_no_session(tmp_path: Path) -> None:
    model = small_model()
    logits, cache = model.prefill(torch.tensor([PROMPT, PROMPT]))
    position = Position(logits, cache, torch.zeros(2, 257, dtype=torch.bool), torch.Generator())
    with raises(
        ValueError, "session must be one of this model, and of one row: logits: expected (1, 257); found (2, 257)"
    ):
        save_session(Session(position, ()), tmp_path / "kept", model, BYTES)


def test_a_position_of_a_model_of_other_sizes_is_refused_at_once() -> None:
    position = stream(small_model(), [1, 2, 3], max_new_tokens=1).position
    with pytest.raises(ValueError, match=r"cache must have 1 layers, as the model; got 2"):
        go_on(small_model(n_layer=1), position, max_new_tokens=1, settings=SamplingConfig(temperature=0))


@pytest.mark.parametrize("name", ["embedding.weight", "layers.1.mixer.A_log", "norm_f.weight"])
def test_models_are_told_apart_by_any_tensor(name: str) -> None:
    model = small_model()
    digest = digest_of_model(model)
    assert digest == digest_of_model(small_model())
    with torch.no_grad():
        dict(model.named_parameters())[name].mul_(1.001)
    assert digest_of_model(model) != digest
