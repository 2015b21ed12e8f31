"""Tokens that are pieces of words: tokenizers of the `tokenizers` library, and byte-pair encoding trained with it."""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from mamba2_lab.machine.untrusted import shown
from mamba2_lab.text.tokenizer import natural, require_text

LARGEST_ID = 2**24 - 1  # the library allots memory for every id up to the largest
LONGEST_OPENING = 16  # tokens before a text: models have one, and a template may repeat what repeats
_NO_TOKEN = {"ids": [LARGEST_ID + 1]}

# Where BPE may merge: inside these pieces, never across. A piece ends where a prompt would, after "def f(x):" say.
PIECES = "|".join(
    (
        r"\n+[ \t]*",  # line ends with the indentation that follows: one token, whatever the depth
        r"(?: |[^\s\p{L}\p{M}\p{N}])?[\p{L}\p{M}]+",  # a word with the space or sign before it: .append, _name, (self
        r"\p{N}",  # each digit alone, so that numbers are written alike (Touvron et al. 2023, arXiv:2302.13971)
        r" ?[^\s\p{L}\p{M}\p{N}]+",  # signs
        r"[^\S\n]+",  # spaces inside a line
    )
)


class Subwords:
    """A tokenizer of the `tokenizers` library in which text is only ever text: no special token can be written in it.

    What spells one is read with the other tokens that the vocabulary has for it. Where it has none, what it does not
    know becomes the unknown token, as ever.

    Args:
        backend: copied, and set to neither cut nor pad.
        end_of_text: one of its tokens.

    Attributes:
        opening: what the library's post-processor puts before a text.
        fallback_bytes: tokens for single bytes, as Llama's tokenizers have them. A run of them is decoded as a whole:
            if it is no UTF-8, all of it becomes U+FFFD.
    """

    kind: ClassVar[str]

    def __init__(self, backend: tokenizers.Tokenizer, end_of_text: str) -> None:
        if (end := backend.token_to_id(end_of_text)) is None:
            raise ValueError(f"end_of_text must be a token of the tokenizer; got {end_of_text!r}")
        if (largest := max(backend.get_vocab().values())) > LARGEST_ID:
            raise ValueError(f"ids of the tokenizer must be at most {LARGEST_ID}; got {largest}")
        self._end_of_text = end_of_text
        with explained("tokenizer must be one that the tokenizers library can write and read again; it says:"):
            self._backend = tokenizers.Tokenizer.from_str(backend.to_str())
            self._backend.no_truncation()
            self._backend.no_padding()
            self._backend.add_special_tokens([tokenizers.AddedToken(end_of_text, special=True, normalized=False)])
            description = json.loads(self._backend.to_str())
            self._reader = _without_special_tokens(self._backend, description)
        self.end_of_text: int = end
        self.vocab_size: int = max(self._backend.get_vocab().values()) + 1
        self.opening = tuple(itertools.islice(_put_before(description["post_processor"]), LONGEST_OPENING + 1))
        if len(self.opening) > LONGEST_OPENING or not all(map(self._backend.id_to_token, self.opening)):
            expected = f"at most {LONGEST_OPENING} tokens of the tokenizer"
            raise ValueError(f"what opens a text must be {expected}; got the ids {shown(self.opening)}")
        names = {f"<0x{byte:02X}>" for byte in range(256)}
        ids = {name: self._backend.token_to_id(name) for name in names}
        self.fallback_bytes = frozenset(i for name, i in ids.items() if i is not None and self.decode([i]) != name)

    def encode(self, text: str) -> list[int]:
        """Token ids of the text, which may hold the name of a special token: it is text like any other."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, on all cores.

        Raises:
            ValueError: for a text that has no UTF-8 (half a surrogate pair), that the library gives up on, or that
                comes out as the end of text, as where one token stands for that and for what is unknown.
        """
        for text in texts:
            require_text(text)
        try:
            with explained("text must be one that this tokenizer can read; it gave up:"):
                encoded = self._reader.encode_batch_fast(texts, add_special_tokens=False)
        except TypeError:
            for text in texts:
                text.encode("utf-8")  # raises, and says where
            raise
        batch = [encoding.ids for encoding in encoded]
        if any(self.end_of_text in ids for ids in batch):
            raise ValueError(f"text must not come out as this tokenizer's end of text, {self._end_of_text!r}; it did")
        return batch

    def decode(self, ids: Iterable[int]) -> str:
        """The text, special tokens left out.

        Raises:
            ValueError: for an id below 0. Ids beyond the vocabulary have no text: models pad theirs.
        """
        ids = natural(ids)
        with explained("ids must be such that this tokenizer can decode them; it gave up:"):
            return self._backend.decode([i for i in ids if i < self.vocab_size], skip_special_tokens=True)

    def to_dict(self) -> dict[str, Any]:
        """Its kind, its end of text, and all that the `tokenizers` library writes of it."""
        return {
            "type": self.kind,
            "end_of_text": self._end_of_text,
            "tokenizer": json.loads(self._backend.to_str()),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """What `to_dict` gave.

        Raises:
            KeyError, TypeError, ValueError: if it is something else.
        """
        with explained("fields must describe a tokenizer of the tokenizers library; it says:"):
            backend = tokenizers.Tokenizer.from_str(json.dumps(fields["tokenizer"]))
        return cls(backend, fields["end_of_text"])


def _put_before(post_processor: Any) -> Iterator[int]:
    """The ids that a post-processor of the library puts before a text; it has one template at most."""
    match post_processor:
        case {"type": "Sequence", "processors": steps}:
            for step in steps:
                yield from _put_before(step)
        case {"type": "TemplateProcessing", "single": pieces, "special_tokens": tokens}:
            for piece in itertools.takewhile(lambda piece: "SpecialToken" in piece, pieces):
                yield from tokens.get(piece["SpecialToken"]["id"], _NO_TOKEN)["ids"]


def opened_by(backend: tokenizers.Tokenizer, names: Sequence[str]) -> tokenizers.Tokenizer:
    """The same tokenizer, but that its post-processor puts these tokens before a text, and nothing behind it."""
    opening = [{"SpecialToken": {"id": name, "type_id": 0}} for name in names]
    first, second = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    description = json.loads(backend.to_str())
    description["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [*opening, first],
        "pair": [*opening, first, second],
        "special_tokens": {name: {"id": name, "ids": [backend.token_to_id(name)], "tokens": [name]} for name in names},
    }
    return tokenizers.Tokenizer.from_str(json.dumps(description))


def _without_special_tokens(backend: tokenizers.Tokenizer, description: dict[str, Any]) -> tokenizers.Tokenizer:
    """The same tokenizer for reading: no text comes out as one of its special tokens, all other ids are as they were.

    The library can leave special tokens alone where it looks for added tokens. But the model may know them besides, as
    a word, a piece or what merges lead to. Here it knows them by names that nobody can guess, and no merge leads there.

    Args:
        description: what the library writes of it; it is changed.
    """
    model, added = description["model"], description["added_tokens"]
    special = {token["content"] for token in added if token["special"]}
    if special.isdisjoint(dict(model["vocab"])):
        backend.encode_special_tokens = True
        return backend
    secret = secrets.token_hex(16)

    def renamed(name: str) -> str:
        return name + secret if name in special else name

    if isinstance(model["vocab"], list):  # pieces with their scores; the place of each is its id
        model["vocab"] = [(renamed(piece), score) for piece, score in model["vocab"]]
    else:
        model["vocab"] = {renamed(name): i for name, i in model["vocab"].items()}
    if model.get("unk_token") is not None:
        model["unk_token"] = renamed(model["unk_token"])
    if "merges" in model:
        begin = len(model.get("continuing_subword_prefix") or "")
        model["merges"] = [(a, b) for a, b in model["merges"] if special.isdisjoint((a, b, a + b[begin:]))]
    for token in added:
        token["content"] = renamed(token["content"])
    reader = tokenizers.Tokenizer.from_str(json.dumps(description))
    reader.encode_special_tokens = True
    return reader


@contextlib.contextmanager
def explained(message: str) -> Iterator[None]:
    """What the library raises, as a ValueError. It knows nothing narrower; a panic in it is not even an Exception."""
    try:
        yield
    except TypeError:
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ValueError(f"{message} {error}") from error
        raise


class BPETokenizer(Subwords):
    """Byte-level byte-pair encoding: bytes, and the runs of them that were merged most often in training.

    Every text comes back whole, since every byte has a token of its own. (Sennrich et al. 2016, arXiv:1508.07909; on
    bytes, Radford et al. 2019, "Language models are unsupervised multitask learners", section 2.2.)
    """

    kind = "bpe"

    def __init__(self, backend: tokenizers.Tokenizer, end_of_text: str) -> None:
        super().__init__(backend, end_of_text)
        self.opening = (self.end_of_text,)  # as the data of every training here

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int = 4096, end_of_text: str = "<|end_of_text|>") -> BPETokenizer:
        """Learn from texts. The same texts give the same tokenizer, whatever their order.

        Args:
            vocab_size: 256 bytes, the end of text, and a token for each merge; fewer if the texts run out of pairs.
            end_of_text: the name of that token, id 0. It must be of several `PIECES`: no merges can then lead to it.

        Raises:
            ValueError: for a vocabulary without room for the bytes, or a name that text could come out as.
        """
        if vocab_size < 257:
            raise ValueError(f"vocab_size must be at least 257, the bytes and the end of text; got {vocab_size}")
        backend = untaught()
        if not end_of_text.isascii() or len(backend.pre_tokenizer.pre_tokenize_str(end_of_text)) < 2:
            raise ValueError(f"end_of_text must be ASCII and no single word, such as '<|end|>'; got {end_of_text!r}")
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[end_of_text],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        return cls(backend, end_of_text)


def untaught() -> tokenizers.Tokenizer:
    """What `BPETokenizer.train` begins with: how text is cut, and no token."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return backend
