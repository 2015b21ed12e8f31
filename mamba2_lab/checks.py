"""Bad settings are refused in one form: the name, what was expected, what came."""

from __future__ import annotations


def require_whole(name: str, value: object, expected: str = "a whole number") -> None:
    """TypeError unless the value is an int. True is not: it would pass for 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be {expected}; got {value!r}")


def require_number(name: str, value: object) -> None:
    """TypeError unless the value is an int or a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number; got {value!r}")


def require(holds: bool, name: str, expected: str, value: object) -> None:
    """ValueError unless it holds."""
    if not holds:
        raise ValueError(f"{name} must be {expected}; got {value!r}")


def require_seed(seed: object) -> None:
    """TypeError unless it is a whole number, ValueError unless torch's generators take it."""
    require_whole("seed", seed, "a whole number or None")
    require(-(2**63) <= seed < 2**64, "seed", "in -2**63..2**64-1", seed)  # type: ignore[operator]


def require_token(name: str, token: object, vocab_size: int) -> None:
    """TypeError unless it is a whole number, ValueError unless it is a token of the vocabulary."""
    require_whole(name, token, "a token id, a whole number")
    holds = 0 <= token < vocab_size  # type: ignore[operator]
    require(holds, name, f"in 0..{vocab_size - 1} (vocab_size {vocab_size})", token)
