"""What the fields of the playground are called, and how many there are of something."""

from __future__ import annotations

FIELDS = {
    "model": "model",
    "length": "new tokens",
    "elsewhere": "folder or Hub id",
    "repetition_penalty": "repetition penalty",
    "temperature": "temperature",
    "top_k": "top-k",
    "top_p": "top-p",
    "min_p": "min-p",
}


def counted(number: int, noun: str) -> str:
    """1 token, 2,000 tokens."""
    return f"{number:,} {noun}{'s' if number != 1 else ''}"
