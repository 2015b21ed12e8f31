"""A tokenizer of every kind that published models have, each of a few dozen tokens and bytes."""

from __future__ import annotations

import functools

import tokenizers as library
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from mamba2_lab.text import BPETokenizer, ByteTokenizer, HuggingFaceTokenizer, Tokenizer

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS = ["hello", "wor", "ld", "a", "b", "é", "日", ".", ",", "'", "n't", "🐍"]


def byte_level() -> library.Tokenizer:
    """As of GPT-2 and GPT-NeoX: it has learned a few merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {c: i for i, c in enumerate([*alphabet, "ab", "Ġab"])}
    made = library.Tokenizer(models.BPE(vocabulary, [("a", "b"), ("Ġ", "ab")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>", "<|padding|>"])
    made.add_tokens(["    "])  # a run of spaces, as GPT-NeoX has them
    return made


def sentencepiece_like() -> library.Tokenizer:
    """As of Llama: a space goes before every text and is dropped after it; unknown characters fall back to bytes."""
    tokens = ["<unk>", "<s>", "</s>", *BYTES, *"▁ab", "▁a", "ab", "▁ab"]
    merges = [("▁", "a"), ("a", "b"), ("▁a", "b")]
    made = library.Tokenizer(
        models.BPE({c: i for i, c in enumerate(tokens)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


@functools.cache
def gpt_like() -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(byte_level(), "<|endoftext|>")


@functools.cache
def llama_like() -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(sentencepiece_like(), "</s>")


@functools.cache
def codestral_like() -> HuggingFaceTokenizer:
    """As of Codestral: the space goes before a text alone, control tokens stand among its words, and <s> opens it."""
    tokens = ["<unk>", "<s>", "</s>", "[INST]", *BYTES, *"▁helowrdab", "he", "ll", "hell", "hello", "▁hello", "▁a"]
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("▁", "hello"), ("▁", "a")]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    made = library.Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    made.add_special_tokens(["<unk>", "<s>", "</s>", "[INST]"])
    made.add_tokens([library.AddedToken("    ", normalized=False)])
    made.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)])
    return HuggingFaceTokenizer(made, "</s>")


def metaspace() -> HuggingFaceTokenizer:
    """A Unigram, as of T5: words carry the space before them."""
    pieces = ["<unk>", "</s>", "▁", *WORDS, *(f"▁{word}" for word in WORDS)]
    made = library.Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=0))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.add_special_tokens(["<unk>", "</s>"])
    return HuggingFaceTokenizer(made, "</s>")


def metaspace_with_bytes() -> HuggingFaceTokenizer:
    """A Unigram whose unknown characters fall back to bytes, as of Gemma."""
    pieces = ["<unk>", "</s>", *BYTES, "▁", *WORDS, *(f"▁{word}" for word in WORDS)]
    scores = [(piece, -float(i)) for i, piece in enumerate(pieces)]
    made = library.Tokenizer(models.Unigram(scores, unk_id=0, byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    made.add_special_tokens(["<unk>", "</s>"])
    return HuggingFaceTokenizer(made, "</s>")


def wordpiece() -> HuggingFaceTokenizer:
    """As of BERT: pieces inside a word begin with ##, and spaces are put back by guessing."""
    tokens = ["[UNK]", "[SEP]", *WORDS, *(f"##{word}" for word in WORDS)]
    made = library.Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens(["[UNK]", "[SEP]"])
    return HuggingFaceTokenizer(made, "[SEP]")


def with_suffixes() -> HuggingFaceTokenizer:
    """As of the first GPT: the last piece of a word carries </w>."""
    tokens = ["<unk>", "<end>", *WORDS, *(f"{word}</w>" for word in WORDS)]
    made = library.Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.BPEDecoder("</w>")
    made.add_special_tokens(["<unk>", "<end>"])
    return HuggingFaceTokenizer(made, "<end>")


def whole_words() -> HuggingFaceTokenizer:
    """No decoder at all: words with a space between them."""
    made = library.Tokenizer(models.WordLevel({t: i for i, t in enumerate(["<unk>", "<end>", *WORDS])}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["<unk>", "<end>"])
    return HuggingFaceTokenizer(made, "<end>")


def our_bpe() -> BPETokenizer:
    """As `medium` has it."""
    return BPETokenizer.train(["hello world, hello wörld\n    日本 🐍 don't " * 20], 300)


@functools.cache
def every_tokenizer() -> dict[str, Tokenizer]:
    """One of each kind, by name."""
    makers = (gpt_like, llama_like, codestral_like, metaspace, metaspace_with_bytes, wordpiece, with_suffixes)
    makers += (whole_words, our_bpe)
    return {"bytes": ByteTokenizer(), **{maker.__name__: maker() for maker in makers}}
