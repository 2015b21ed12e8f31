"""Text to token ids and back, behind one small protocol.

    ByteTokenizer          nothing to learn, no text it cannot read
    BPETokenizer           byte-pair encoding, trained here: about three and a half bytes of Python to a token
    HuggingFaceTokenizer   the one a published model came with

A model's folder holds `mamba2_lab_tokenizer.json` with everything in it, or else what transformers writes.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from mamba2_lab.machine.files import write_text
from mamba2_lab.machine.untrusted import CheckpointError, read_json, read_text, shown
from mamba2_lab.text.trial import try_out

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REPLACEMENT = "\ufffd"  # what decoding shows for bytes that are not (yet) UTF-8
FILE_NAME = "mamba2_lab_tokenizer.json"
HUGGING_FACE_FILE = "tokenizer.json"  # what the tokenizers library writes
LARGEST_FILE = 64_000_000  # bytes: several hundred thousand tokens and their merges
LARGEST_ID = 2**24 - 1  # the library allots memory for every id up to the largest

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


@runtime_checkable
class Tokenizer(Protocol):
    """What the package needs of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Ids are 0..vocab_size-1."""

    @property
    def end_of_text(self) -> int:
        """The id that stands before and after every document."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without `end_of_text`."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text: what `encode` gives, faster where there are many."""

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids; `end_of_text` is dropped, bytes that are not UTF-8 become U+FFFD."""

    def to_dict(self) -> dict[str, Any]:
        """All it takes to make this tokenizer again, ready for JSON, its kind under "type"."""


class ByteTokenizer:
    """Ids 0..255 are the bytes of UTF-8, and 256 is the end of a text.

    >>> ByteTokenizer().encode("né")
    [110, 195, 169]
    """

    vocab_size = 257
    end_of_text = 256

    def encode(self, text: str) -> list[int]:
        """The UTF-8 bytes of the text."""
        _require_text(text)
        return list(text.encode("utf-8"))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The UTF-8 bytes of each text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the bytes.

        Raises:
            ValueError: for an id outside 0..256.
        """
        ids = [int(i) for i in ids]
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise ValueError(f"ids must lie in 0..{self.vocab_size - 1}; got {i}")
        return bytes(i for i in ids if i != self.end_of_text).decode("utf-8", errors="replace")

    def to_dict(self) -> dict[str, Any]:
        """{"type": "bytes"}: there is nothing else to know."""
        return {"type": "bytes"}


class _Subwords:
    """A tokenizer of the `tokenizers` library in which text is only ever text: no special token can be written in it.

    What spells one is read with the other tokens that the vocabulary has for it. Where it has none, what it does not
    know becomes the unknown token, as ever.

    Args:
        backend: copied, and set to neither cut nor pad.
        end_of_text: one of its tokens.

    Attributes:
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
        with _explained("tokenizer must be one that the tokenizers library can write and read again; it says:"):
            self._backend = tokenizers.Tokenizer.from_str(backend.to_str())
            self._backend.no_truncation()
            self._backend.no_padding()
            self._backend.add_special_tokens([tokenizers.AddedToken(end_of_text, special=True, normalized=False)])
            self._reader = _without_special_tokens(self._backend)
        self.end_of_text: int = end
        self.vocab_size: int = max(self._backend.get_vocab().values()) + 1
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
            _require_text(text)
        try:
            with _explained("text must be one that this tokenizer can read; it gave up:"):
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
        ids = [int(i) for i in ids]
        if any(i < 0 for i in ids):
            raise ValueError(f"ids must be 0 or more; got {min(ids)}")
        with _explained("ids must be such that this tokenizer can decode them; it gave up:"):
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
        with _explained("fields must describe a tokenizer of the tokenizers library; it says:"):
            backend = tokenizers.Tokenizer.from_str(json.dumps(fields["tokenizer"]))
        return cls(backend, fields["end_of_text"])


def _without_special_tokens(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same tokenizer for reading: no text comes out as one of its special tokens, all other ids are as they were.

    The library can leave special tokens alone where it looks for added tokens. But the model may know them besides, as
    a word, a piece or what merges lead to. Here it knows them by names that nobody can guess, and no merge leads there.
    """
    description = json.loads(backend.to_str())
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
def _explained(message: str) -> Iterator[None]:
    """What the library raises, as a ValueError. It knows nothing narrower; a panic in it is not even an Exception."""
    try:
        yield
    except TypeError:
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ValueError(f"{message} {error}") from error
        raise


class BPETokenizer(_Subwords):
    """Byte-level byte-pair encoding: bytes, and the runs of them that were merged most often in training.

    Every text comes back whole, since every byte has a token of its own. (Sennrich et al. 2016, arXiv:1508.07909; on
    bytes, Radford et al. 2019, "Language models are unsupervised multitask learners", section 2.2.)
    """

    kind = "bpe"

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
        backend = _untaught()
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


def _untaught() -> tokenizers.Tokenizer:
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


class HuggingFaceTokenizer(_Subwords):
    """The tokenizer of a published model. It is read with the `tokenizers` library; transformers is not needed.

    The official Mamba-2 models come without one and use that of "EleutherAI/gpt-neox-20b". What a tokenizer loses
    (an unknown character, doubled spaces) stays lost; those that work on bytes lose nothing.

    Args:
        tokenizer: of transformers, one with a `backend_tokenizer`, or of the `tokenizers` library.
        end_of_text: one of its tokens; by default the `eos_token` that a tokenizer of transformers names.

    Raises:
        TypeError: for anything else.
        ValueError: if there is no such token.
    """

    kind = "hugging_face"

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase | tokenizers.Tokenizer, end_of_text: str | None = None
    ) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not isinstance(backend, tokenizers.Tokenizer):
            expected = "a tokenizers.Tokenizer or a transformers tokenizer with a backend_tokenizer"
            raise TypeError(f"tokenizer must be {expected}; got {type(tokenizer).__name__}")
        if end_of_text is None:
            end_of_text = getattr(tokenizer, "eos_token", None)
        if end_of_text is None:
            raise ValueError("the tokenizer must have an eos_token, or end_of_text must name a token; got neither")
        super().__init__(backend, end_of_text)

    @classmethod
    def from_pretrained(cls, source: str | Path) -> HuggingFaceTokenizer:
        """Read tokenizer.json and, beside it, which token ends a text.

        Args:
            source: a folder, or a Hub id such as "EleutherAI/gpt-neox-20b" (downloaded, then cached).

        Raises:
            FileNotFoundError: if there is no tokenizer.json.
            CheckpointError: if it is damaged, explodes when it is tried, or no file names the end of text.
        """
        folder = Path(source).expanduser()
        if not folder.is_dir():
            folder = _fetch(str(source))
        path = folder / HUGGING_FACE_FILE
        if not path.exists():
            raise FileNotFoundError(f"{folder} has no tokenizer: expected a file {HUGGING_FACE_FILE}")
        backend = _try_and_read(read_text(path, LARGEST_FILE), path)
        if (end_of_text := _named_end_of_text(folder, backend)) is None:
            raise CheckpointError(
                f"{folder}: expected an end of text (eos_token in tokenizer_config.json); found none. To name one: "
                f"HuggingFaceTokenizer(tokenizers.Tokenizer.from_file(path), end_of_text=...)"
            )
        try:
            return cls(backend, end_of_text)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error


def _try_and_read(description: str, path: Path) -> tokenizers.Tokenizer:
    """A tokenizer of the library, by what stands in the file at `path`."""
    try:
        try_out(description)
        with _explained(""):
            return tokenizers.Tokenizer.from_str(description)
    except ValueError as error:
        raise CheckpointError(f"{path}: expected what the tokenizers library writes; found {error}") from error


def _fetch(hub_id: str) -> Path:
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(hub_id, allow_patterns=[HUGGING_FACE_FILE, *_NAMING, *_NUMBERING])
        )
    except Exception as error:  # the Hub's client raises many kinds: offline, not found, gated
        raise FileNotFoundError(f"no tokenizer at {hub_id!r}: no such folder, and the Hub answered: {error}") from error


_NAMING = ("tokenizer_config.json", "special_tokens_map.json")  # eos_token, the token itself
_NUMBERING = ("generation_config.json", "config.json")  # eos_token_id, its number


def _named_end_of_text(folder: Path, backend: tokenizers.Tokenizer) -> str | None:
    """The token that the files of a folder name as the end of a text."""
    for name in _NAMING:
        token = _fields(folder / name).get("eos_token")
        if isinstance(token, dict):
            token = token.get("content")
        if not isinstance(token, str | None):
            raise CheckpointError(f"{folder / name}: eos_token: expected a text; found {shown(token)}")
        if token is not None:
            return token
    special = {i: token.content for i, token in backend.get_added_tokens_decoder().items() if token.special}
    for name in _NUMBERING:
        numbers = _fields(folder / name).get("eos_token_id")
        for number in numbers if isinstance(numbers, list) else [numbers]:
            # Where nobody chose, transformers writes a default, and that may be any word's.
            if type(number) is int and number in special:
                return special[number]
    return None


def _fields(path: Path) -> dict[str, Any]:
    """What `read_json` gives; {} if there is no such file."""
    return read_json(path) if path.exists() else {}


def _require_text(text: object) -> None:
    if not isinstance(text, str):
        raise TypeError(f"text must be a str; got {type(text).__name__}")


def save(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Write the tokenizer into a model's folder."""
    text = json.dumps(tokenizer.to_dict(), indent=2, ensure_ascii=False)
    write_text(Path(folder) / FILE_NAME, text + "\n")


def load(folder: str | Path) -> Tokenizer:
    """The tokenizer of a model's folder: ours, or else the one that transformers wrote there.

    Raises:
        FileNotFoundError: if the folder has none.
        CheckpointError: if it is damaged, explodes when it is tried, or is of an unknown type.
    """
    path = Path(folder) / FILE_NAME
    if not path.exists():
        if (Path(folder) / HUGGING_FACE_FILE).exists():
            return HuggingFaceTokenizer.from_pretrained(folder)
        raise FileNotFoundError(f"{folder} has no tokenizer: expected a file {FILE_NAME} or {HUGGING_FACE_FILE}")
    found = read_json(path, LARGEST_FILE)
    kind = found.get("type")
    if kind == "bytes":
        return ByteTokenizer()
    for subwords in (BPETokenizer, HuggingFaceTokenizer):
        if kind == subwords.kind:
            return _from_stranger(subwords, found, path)
    raise CheckpointError(f"{path}: tokenizer type must be 'bytes', 'bpe' or 'hugging_face'; got {shown(kind)}")


def _from_stranger(subwords: type[_Subwords], found: dict[str, Any], path: Path) -> Tokenizer:
    """`from_dict`, of what stands in the file at `path`."""
    for name in ("tokenizer", "end_of_text"):
        if name not in found:
            raise CheckpointError(f"{path}: expected a field {name!r}; found none")
    try:
        if not _is_ours(found["tokenizer"]):
            try_out(json.dumps(found["tokenizer"]))
        return subwords.from_dict(found)
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected a tokenizer of type {subwords.kind!r}; found {error}") from error


def _is_ours(description: Any) -> bool:
    """Whether it cuts text as `BPETokenizer` does, and so needs no trial: it differs in what was learned alone."""
    if not isinstance(description, dict) or not isinstance(description.get("model"), dict):
        return False
    named = description.get("added_tokens")
    untaught = {**description, "added_tokens": [], "model": {**description["model"], "vocab": {}, "merges": []}}
    return isinstance(named, list) and len(named) == 1 and untaught == json.loads(_untaught().to_str())
