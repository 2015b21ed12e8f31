"""Several models on the same bytes, the compressors beside them, and several texts together."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import math

import pytest
from support.many_tokenizers import every_tokenizer, our_bpe
from support.small_models import small_model

from mamba2_lab.data import Document
from mamba2_lab.evaluation import COMPRESSORS, Entrant, Figures, Reading, SideBySide, total
from mamba2_lab.text import ByteTokenizer

BYTES, PIECES = ByteTokenizer(), our_bpe()
ENTRANTS = {
    "bytes": Entrant(small_model().cpu().double(), BYTES),
    "pieces": Entrant(small_model(vocab_size=PIECES.vocab_size, seed=1).cpu().double(), PIECES),
}
TEXT = "hello world,\n  hello wörld\n" * 12


def figures_of(text: str, name: str = "text", block: int = 40) -> Figures:
    both = SideBySide(Document(name, text), ENTRANTS, block)
    both.read()
    return both.figures()


def test_each_model_needs_what_it_needs_alone() -> None:
    found = figures_of(TEXT)
    assert found.bytes == len(TEXT.encode()) and found.sha256 == hashlib.sha256(TEXT.encode()).hexdigest()
    for name, entrant in ENTRANTS.items():
        alone = Reading(*entrant)
        alone.read(Document("", TEXT))
        assert found.tokens[name] == alone.tokens == len(entrant.tokenizer.encode(TEXT))
        assert found.bits[name] == pytest.approx(alone.bits, rel=1e-9)
        assert found.bits_per_byte(name) == pytest.approx(alone.nats / math.log(2) / len(TEXT.encode()), rel=1e-9)
        assert found.perplexity(name) == pytest.approx(math.exp(alone.nats / alone.tokens), rel=1e-9)


def test_several_texts_count_by_their_length() -> None:
    several = [figures_of("hello", "a"), figures_of(TEXT, "b"), figures_of("é", "c")]
    whole = total(several)
    assert whole.bytes == sum(figures.bytes for figures in several)
    for name in ("bytes", "pieces", "gzip", "xz"):
        mean = sum(figures.bits_per_byte(name) * figures.bytes for figures in several) / whole.bytes
        assert whole.bits_per_byte(name) == pytest.approx(mean, rel=1e-12)
    per_token = sum(math.log(figures.perplexity("pieces")) * figures.tokens["pieces"] for figures in several)
    assert whole.perplexity("pieces") == pytest.approx(math.exp(per_token / whole.tokens["pieces"]), rel=1e-12)
    assert len({whole.sha256, total(several[::-1]).sha256, total(several[:2]).sha256}) == 3
    assert total(several[:1]).sha256 == several[0].sha256


@pytest.mark.parametrize("calls", [1, 2, 5, 8])
def test_what_is_broken_off_is_compared_on_the_bytes_that_all_have_read(
    monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    read, done = Reading.read, []

    def breaking_off(*arguments: object) -> None:
        if len(done) == calls:
            raise KeyboardInterrupt
        done.append(arguments)
        read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Reading, "read", breaking_off)
    both = SideBySide(Document("text", TEXT), ENTRANTS, 40)
    with pytest.raises(KeyboardInterrupt):
        both.read()
    found = both.figures()
    monkeypatch.undo()
    begun = TEXT.encode()[: found.bytes].decode()
    assert (found.bytes > 0) == (calls >= 2)
    if begun:
        expected = figures_of(begun)
        assert found.sha256 == expected.sha256 and found.tokens == expected.tokens
        assert found.bits == pytest.approx(expected.bits, rel=1e-9)


def test_progress_comes_to_the_bytes_of_the_text() -> None:
    heard: list[float] = []
    SideBySide(Document("text", TEXT), ENTRANTS, 40).read(heard.append)
    assert sum(heard) == pytest.approx(len(TEXT.encode())) and len(heard) > 12 and min(heard) > 0


def test_a_tokenizer_that_loses_something_is_named() -> None:
    words = every_tokenizer()["whole_words"]
    entrants = {**ENTRANTS, "words": Entrant(small_model(vocab_size=words.vocab_size).cpu(), words)}
    measured = []
    for text in ("a", "hello  a"):
        reading = SideBySide(Document("text", text), entrants)
        reading.read()
        measured.append(reading.figures())
    assert [figures.lossy for figures in measured] == [frozenset(), {"words"}]
    assert total(measured).lossy == {"words"}
    assert measured[1].bits_per_byte("words") == measured[1].bits["words"] / 8  # of all bytes, the lost ones too


@pytest.mark.parametrize("data", [b"", b"a", b"ab" * 9000, bytes(range(256)) * 20], ids=len)
def test_compressors_need_what_the_programs_do_but_for_their_headers(data: bytes) -> None:
    assert COMPRESSORS["gzip"](data) == len(gzip.compress(data, 9)) - 12  # header and trailer: 18 bytes for zlib's 6
    assert COMPRESSORS["xz"](data) == len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def test_a_perplexity_without_tokens_and_one_beyond_all_floats() -> None:
    assert Figures("text", 1, "", {"words": 0.0}, {"words": 0}).perplexity("words") == 1.0
    assert Figures("text", 1, "", {"broken": 5000.0}, {"broken": 1}).perplexity("broken") == math.inf
