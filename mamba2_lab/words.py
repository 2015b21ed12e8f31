"""Numbers, tokens and tables as people read them."""

from __future__ import annotations

from collections.abc import Sequence

Row = Sequence[str]


def counted(number: int, noun: str) -> str:
    """1 token, 2,000 tokens."""
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def in_bytes(size: float) -> str:
    """1500000 -> 1.5 MB, in powers of a thousand."""
    return _in_units(size, 1000, ("B", "kB", "MB", "GB"))


def in_binary_bytes(size: float) -> str:
    """1572864 -> 1.5 MiB, in powers of 1024, as memory is counted."""
    return _in_units(size, 1024, ("B", "KiB", "MiB", "GiB"))


def _in_units(size: float, step: int, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if size < 999.5:  # what would be written with three digits
            return f"{size:.3g} {unit}"
        size /= step
    return f"{size:.3g} {units[-1]}" if size < 999.5 else f"{size:,.0f} {units[-1]}"


def percent(probability: float) -> str:
    """0.0312 -> 3.1 %; what is there is never said to be 0."""
    return "< 0.1 %" if 0 < probability < 0.0005 else f"{100 * probability:.1f} %"


def visible(piece: str) -> str:
    """A token with its blanks to be seen."""
    return piece.replace(" ", "·").replace("\n", "↵").replace("\t", "→")


def quoted(piece: str) -> str:
    """A token as it stands in a sentence: '·' for a blank."""
    return f"'{visible(piece)}'"


def table(rows: Sequence[Row], sides: str = "<") -> str:
    """A line for each row, its cells below those of the row before.

    Args:
        sides: for each column, the side of its cells: < is left, > right; the last one holds for all that follow.
    """
    return "\n".join("  ".join(row).rstrip() for row in _aligned(rows, sides))


def markdown(header: Row, rows: Sequence[Row]) -> str:
    """A table in Markdown that reads well unrendered, too: names in the first column, numbers in the others."""
    head, *body = _aligned([header, *rows], "<>")
    first, *others = map(len, head)
    rule = ["-" * first, *("-" * (width - 1) + ":" for width in others)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def _aligned(rows: Sequence[Row], sides: str) -> list[list[str]]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = sides.ljust(len(widths), sides[-1])
    return [[f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)] for row in rows]
