"""A tokenizer that explodes does so in another process."""

from __future__ import annotations

import json
import shutil

import pytest
from support.many_tokenizers import codestral_like
from support.strange_tokenizers import described, in_place_of, split_at

from mamba2_lab import load_tokenizer
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.text import save_for_transformers, trial


def added(content: str) -> list[dict]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "special"), False)
    return [*described()["added_tokens"], {"id": 9, "content": content, "normalized": True, **flags}]


TENFOLD = {"type": "Sequence", "normalizers": [in_place_of({"String": "a"}, "a" * 10)] * 12}
PREPEND = {"type": "Prepend", "prepend": "x" * 1000}
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
    "spaces before each text that grow": (
        described(
            normalizer={"type": "Sequence", "normalizers": [PREPEND, *[in_place_of({"String": "x"}, "x" * 1000)] * 2]}
        ),
        TOO_MUCH,
    ),
    "more to strip than there is": (
        described(decoder={"type": "Strip", "content": "a", "start": 2**40, "stop": 2**40}),
        "found index out of bounds",
    ),
    "pieces without one": (
        described(model={"type": "Unigram", "unk_id": 0, "vocab": [], "byte_fallback": True}),
        "found Unable to load vocab",
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


def test_no_code_of_a_folder_runs_and_nothing_outside_is_asked_for(tmp_path, monkeypatch, hub):
    """What transformers would run if it were told to trust the folder, in every place where it may be named."""
    monkeypatch.chdir(tmp_path)
    save_for_transformers(codestral_like(), tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: ...", encoding="utf-8")
    for name in ("tokenizer_config.json", "config.json"):
        fields = json.loads(path.read_text(encoding="utf-8")) if (path := tmp_path / name).exists() else {}
        fields |= {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, "tokenizer_class": "Evil"}
        fields |= {"tokenizer_file": "../outside.json", "special_tokens_map_file": "../outside.json"}
        fields |= {"name_or_path": "owner/other", "_name_or_path": "owner/other", "trust_remote_code": True}
        path.write_text(json.dumps(fields), encoding="utf-8")
    assert load_tokenizer(tmp_path).encode("hello é") == codestral_like().encode("hello é")
    assert not (tmp_path / "ran").exists()
    assert hub.requests == []
