"""What every configuration has in common: fields that are checked, and known by name."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Self, get_args, get_type_hints

from mamba2_lab.checks import require, require_number, require_whole

LARGEST_COUNT = 2**31 - 1  # two of them can be multiplied in 64 bits


@dataclass(frozen=True)
class Fields:
    """A dataclass whose defaults say what its fields take: counts, switches, positive numbers, ranges, and words.

    A word is one of those in the field's `Literal`, or a count where the annotation has `int` beside it. A count is at
    least 1, or at least 0 where that is its default. Where None is the default, it is allowed beside what the
    annotation says.

    Raises:
        TypeError, ValueError: as `checks` says it, in the name of the field.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._check(field)

    def _check(self, field: dataclasses.Field[Any]) -> None:
        value = getattr(self, field.name)
        if field.default is not None:
            _CHECKS[type(field.default)](self, field.name, value)
        elif value is not None:
            kind, _ = get_args(get_type_hints(type(self))[field.name])  # of "int | None"
            _CHECKS[kind](self, field.name, value)

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


def _check_count(config: Fields, name: str, value: Any) -> None:
    require_whole(name, value)
    least = 0 if config.__dataclass_fields__[name].default == 0 else 1
    require(value >= least, name, f"at least {least}", value)
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


def _check_word(config: Fields, name: str, value: Any) -> None:
    allowed = get_args(get_type_hints(type(config))[name])
    if int not in allowed:
        require(value in allowed, name, f"one of {', '.join(allowed)}", value)
    elif value not in get_args(allowed[1]):  # of int | Literal["auto"]
        require_whole(name, value, f"a whole number or {' or '.join(map(repr, get_args(allowed[1])))}")
        _check_count(config, name, value)


_CHECKS = {int: _check_count, bool: _check_switch, float: _check_positive, tuple: _check_range, str: _check_word}
