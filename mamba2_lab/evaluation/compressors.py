"""What every model should beat: general compressors at their strongest."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Mapping

LEAST_DICTIONARY, LARGEST_DICTIONARY = 4096, 2**26  # bytes, of xz; the second is that of its strongest preset


def gzip(data: bytes) -> int:
    """Size in bytes of what gzip's algorithm makes of the data."""
    return len(zlib.compress(data, level=9))


def xz(data: bytes) -> int:
    """Size in bytes of what xz makes of the data. A dictionary as large as the data finds all that a larger one does,
    and is set up sooner where the data is short. To find it takes some eleven times the dictionary in memory (xz's
    manual: 674 MiB for the largest)."""
    size = min(max(LEAST_DICTIONARY, len(data)), LARGEST_DICTIONARY)
    strongest = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": size}
    return len(lzma.compress(data, filters=[strongest]))


COMPRESSORS: Mapping[str, Callable[[bytes], int]] = {"gzip": gzip, "xz": xz}
