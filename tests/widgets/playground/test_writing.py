"""A text is what decoding all of its tokens gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.many_tokenizers import every_tokenizer
from support.playgrounds import TOKENIZER
from text.test_text_of_streams import BYTE_RUNS, Scripted, text_behind

from mamba2_lab.generation import SamplingConfig
from mamba2_lab.text import Tokenizer
from mamba2_lab.widgets.playground.writing import Loaded, Writing


def scripted(tokenizer: Tokenizer, script: list[int]) -> Loaded:
    """A model that writes these tokens."""
    return Loaded("own", Scripted(script, tokenizer.vocab_size), tokenizer)  # type: ignore[arg-type]


def test_a_character_that_lies_across_two_runs_is_whole():
    writing = Writing(scripted(TOKENIZER, [*"naïve".encode()]), "ab", SamplingConfig(temperature=0), (), seed=0)
    list(writing.run(3))
    assert (writing.text(), writing.rest) == ("na", "\ufffd"), "no chip shows a part of a character"
    list(writing.run(3))
    assert [token.text for token in writing.tokens] == ["n", "a", "", "ï", "v", "e"]
    assert writing.text(since=3) == "ïve", "a run has the characters that it finished"


@given(
    name=st.sampled_from(list(every_tokenizer())),
    prompt=st.sampled_from(["", "ab", "hello", "hello wor", "日 é"]),
    script=st.lists(st.integers(0, 10_000), min_size=1, max_size=12),
    cut=st.integers(0, 12),
)
def test_the_text_is_what_decoding_all_tokens_gives(name, prompt, script, cut):
    tokenizer = every_tokenizer()[name]
    ids = [i % tokenizer.vocab_size for i in script]
    ids = [i for i in ids if i != tokenizer.end_of_text] or [0]
    writing = Writing(scripted(tokenizer, ids), prompt, SamplingConfig(temperature=0), (), seed=0)
    first = len([*writing.run(min(cut, len(ids)))])
    list(writing.run(len(ids) - first))
    expected = text_behind(tokenizer, [tokenizer.end_of_text, *tokenizer.encode(prompt)], ids)
    if name not in BYTE_RUNS:  # there a run that was settled may still be taken back by a broken byte
        assert writing.text() + writing.rest == expected
