"""A tokenizer that explodes does so in another process."""

from __future__ import annotations

import json
import shutil

import pytest
from support.strange_tokenizers import described, in_place_of, split_at

from mamba2_lab import load_tokenizer
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.text import trial


def added(content: str) -> list[dict]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "special"), False)
    return [*described()["added_tokens"], {"id": 9, "content": content, "normalized": True, **flags}]


TENFOLD = {"type": "Sequence", "normalizers": [in_place_of({"String": "a"}, "a" * 10)] * 12}
TOO_MUCH = "found one that takes more than 1 s or 4 GiB to be tried"
EXPLODING = {
    "an expression that tries all ways": (described(pre_tokenizer=split_at("(a+)+$")), "found Onig: "),
    "of two letters": (described(pre_tokenizer=split_at("((ab)+)+$")), "found Onig: "),
    "of a letter that is rare": (described(pre_tokenizer=split_at("(q*)*\\1[^\\s\\S]")), "found "),
    "before anything is read": (
        described(normalizer=in_place_of({"Regex": "(a+)+$"}, ""), added_tokens=added("a" * 40 + "b")),
        "found Onig: ",
    ),
    "one that never ends": (
        described(normalizer=in_place_of({"Regex": "\\s+$"}, ""), added_tokens=added(" " * 100_000 + "b")),
        TOO_MUCH,
    ),
    "replacements that grow": (described(normalizer=TENFOLD), TOO_MUCH),
    "and grow before anything is read": (described(normalizer=TENFOLD, added_tokens=added("a")), TOO_MUCH),
    "and grow where text is made": (
        described(decoder={"type": "Sequence", "decoders": [in_place_of({"String": "a"}, "a" * 10)] * 12}),
        TOO_MUCH,
    ),
    "no expression": (described(pre_tokenizer=split_at("(")), "found Oniguruma error: "),
    "a panic at once": (
        described(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        "found Precompiled",
    ),
    "a panic at the first text": (
        described(pre_tokenizer={"type": "FixedLength", "length": 0}),
        "found chunk size must",
    ),
    "a step that nobody knows": (described(pre_tokenizer={"type": "Magic"}), "found data did not match any variant"),
}


@pytest.mark.parametrize(("description", "message"), EXPLODING.values(), ids=EXPLODING.keys())
def test_a_tokenizer_that_explodes_or_panics_is_refused_and_this_process_goes_on(
    tmp_path, monkeypatch, description, message
):
    monkeypatch.setattr(trial, "SECONDS", 1)
    (tmp_path / "tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(tmp_path)
    expected = f"{tmp_path / 'tokenizer.json'}: expected what the tokenizers library writes; {message}"
    assert str(caught.value).startswith(expected)


def test_a_trial_that_cannot_be_made_says_so_and_blames_no_file(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text("import no_such_library", encoding="utf-8")
    monkeypatch.setattr(trial, "__file__", str(script))
    with pytest.raises(RuntimeError, match=r"a tokenizer could not be tried: (?s:.*)no_such_library"):
        trial.try_out("{}")


def test_a_trial_finds_the_library_where_this_process_does_and_nothing_beside_it(tmp_path, monkeypatch):
    """Modules of this package are named like some of Python's own: `inspect`."""
    script = shutil.copy(trial.__file__, tmp_path / "script.py")
    (tmp_path / "tokenizers.py").write_text("raise SystemExit(9)", encoding="utf-8")
    monkeypatch.setattr(trial, "__file__", str(script))
    monkeypatch.chdir(tmp_path)
    trial.try_out(json.dumps(described()))
