"""A long text in blocks, so that it is never tokenized whole: the tokens of 100 MB would take gigabytes."""

from __future__ import annotations

import re
from collections.abc import Iterator

BLOCK = 2**15  # characters

# Where a block may end, the best place first. A line that ends in a letter or digit: no tokenizer that works on pieces
# of text joins the line break to that. A letter before a blank, which goes with what follows it. Any line break.
_CUTS = (re.compile(r"[^\W_](?=\n)"), re.compile(r"[^\W_](?= )"), re.compile(r"[^\n](?=\n)"))


def blocks(text: str, size: int = BLOCK) -> Iterator[str]:
    """The text in blocks of at most `size` characters; a longer one is cut in the last half of each block."""
    start = 0
    while len(text) - start > size:
        end = _cut(text, start + size // 2, start + size)
        yield text[start:end]
        start = end
    yield text[start:]


def _cut(text: str, first: int, last: int) -> int:
    """The last good place in first+1..last, or `last`."""
    for cut in _CUTS:
        ends = [found.end() for found in cut.finditer(text, first, last + 1) if found.end() <= last]
        if ends:
            return ends[-1]
    return last
