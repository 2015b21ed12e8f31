"""Bad settings are refused in one form: the name, what was expected, what came.

Where a docstring raises TypeError or ValueError "as `checks` says it", this is what the message says. Who has set a
value may know it by another name, a flag of the command line or a field of a page: `told` says the same there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Refusal:
    """Why a setting is refused: what an exception is raised with in place of a text, `ValueError(Refusal(...))`.

    name: of the setting, as the code calls it.
    expected: what it must be. Another setting is quoted there: "a divisor of `batch_size` = 8".
    got: what came.
    in_code: how `expected` goes on where a setting may be None; no flag and no field can be set to that.
    """

    name: str
    expected: str
    got: object
    in_code: str = ""

    def __str__(self) -> str:
        return self._in_words(self.in_code, {})

    def told(self, called: Mapping[str, str]) -> str:
        """The same at the keyboard, where settings are called otherwise: {"top_k": "--top-k"}."""
        return self._in_words("", called)

    def _in_words(self, more: str, called: Mapping[str, str]) -> str:
        expected = re.sub(r"`(\w+)`", lambda found: called.get(found[1], found[1]), self.expected + more)
        return f"{called.get(self.name, self.name)} must be {expected}; got {self.got!r}"


def told(error: BaseException, called: Mapping[str, str]) -> str:
    """What an exception says, in the names that settings have for the one who reads it."""
    return error.args[0].told(called) if error.args and isinstance(error.args[0], Refusal) else str(error)


def require_whole(name: str, value: object, expected: str = "a whole number", in_code: str = "") -> None:
    """TypeError unless the value is an int. True is not: it would pass for 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(Refusal(name, expected, value, in_code))


def require_number(name: str, value: object) -> None:
    """TypeError unless the value is an int or a float; ValueError for an int too large to be a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(Refusal(name, "a number", value))
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise ValueError(f"{name} must be a number that a float can hold; got one of {value.bit_length()} bits")


def require(holds: bool, name: str, expected: str, value: object, in_code: str = "") -> None:
    """ValueError unless it holds."""
    if not holds:
        raise ValueError(Refusal(name, expected, value, in_code))


def require_seed(seed: object) -> None:
    """TypeError unless it is a whole number, ValueError unless torch's generators take it."""
    require_whole("seed", seed, in_code=" or None")
    require(-(2**63) <= seed < 2**64, "seed", "in -2**63..2**64-1", seed)  # type: ignore[operator]


def require_token(name: str, token: object, vocab_size: int) -> None:
    """TypeError unless it is a whole number, ValueError unless it is a token of the vocabulary."""
    require_whole(name, token, "a token id, a whole number")
    holds = 0 <= token < vocab_size  # type: ignore[operator]
    require(holds, name, f"in 0..{vocab_size - 1} (vocab_size {vocab_size})", token)


def one_sequence(name: str, ids: Tensor | Sequence[int]) -> Tensor:
    """Token ids of one sequence, (l,) or (1,l) -> (1,l); TypeError for a text, ValueError for anything else."""
    if isinstance(ids, str):
        raise TypeError(f"{name} must be token ids, as tokenizer.encode gives them; got the text {ids!r}")
    rows = torch.as_tensor(ids)
    rows = rows.unsqueeze(0) if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[0] != 1 or rows.shape[1] == 0:
        raise ValueError(
            f"{name} must be one sequence of at least one token, (l,) or (1,l); got shape {tuple(rows.shape)}"
        )
    return rows


def check_ids(name: str, ids: Tensor, vocab_size: int) -> None:
    """Integers inside the vocabulary. Values are read only on the CPU: elsewhere it would stall the device. Under a
    compiler or torch.func there are none to read."""
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"{name} must be integers; got {ids.dtype}")
    without_values = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    if without_values or ids.device.type != "cpu" or ids.numel() == 0:
        return
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"{name} must lie in 0..{vocab_size - 1} (vocab_size {vocab_size}); got {low if low < 0 else high}"
        )
