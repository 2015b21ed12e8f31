"""What every configuration has in common: fields that are checked, and known by name."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Self

from mamba2_lab.checks import Refusal, require, require_number, require_whole

LARGEST_COUNT = 2**31 - 1  # two of them can be multiplied in 64 bits


@dataclass(frozen=True)
class Fields:
    """A dataclass whose defaults say what its fields take: counts, switches, positive numbers, ranges, and words.

    Raises:
        TypeError, ValueError: as `checks` says it, in the name of the field.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if "words" in field.metadata:
                _check_word(field.name, getattr(self, field.name), **field.metadata)
            else:
                _CHECKS[type(field.default)](self, field.name, getattr(self, field.name))

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The inverse of `to_dict`; an unknown field is an error, not a shrug."""
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise ValueError(f"unknown config field {unknown[0]!r}; the fields are {', '.join(known)}")
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """All fields by name."""
        return dataclasses.asdict(self)


def word(default: str, *others: str, or_count: bool = False) -> Any:
    """A field that takes one of these words; with `or_count`, or a count."""
    return dataclasses.field(default=default, metadata={"words": (default, *others), "or_count": or_count})


def _check_word(name: str, value: Any, words: tuple[str, ...], or_count: bool) -> None:
    expected = " or ".join([*map(repr, words), *(["a whole number"] if or_count else [])])
    if isinstance(value, str):
        require(value in words, name, expected, value)
    elif or_count:
        require_whole(name, value, expected)
        _check_bounds(name, value)
    else:
        raise TypeError(Refusal(name, expected, value))


def _check_count(config: Fields, name: str, value: Any) -> None:
    require_whole(name, value)
    _check_bounds(name, value)


def _check_bounds(name: str, value: int) -> None:
    require(value >= 1, name, "at least 1", value)
    require(value <= LARGEST_COUNT, name, f"at most {LARGEST_COUNT}", value)


def _check_switch(config: Fields, name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False; got {value!r}")


def _check_positive(config: Fields, name: str, value: Any) -> None:
    require_number(name, value)
    require(0 < value < math.inf, name, "a finite number above 0", value)


def _check_range(config: Fields, name: str, value: Any) -> None:
    """A pair (low, high), kept as a tuple of floats however it came."""
    try:
        low, high = value
        require_number(name, low)
        require_number(name, high)
        low, high = float(low), float(high)
    except (TypeError, ValueError, OverflowError):  # OverflowError: no float holds 10**400
        raise TypeError(f"{name} must be a pair (low, high) of numbers; got {value!r}") from None
    require(low <= high, name, "a pair (low, high) with low <= high", value)
    object.__setattr__(config, name, (low, high))


_CHECKS = {int: _check_count, bool: _check_switch, float: _check_positive, tuple: _check_range}
