"""Freed memory can be kept for the next layer, instead of being given back to the system and asked for again.

Every layer makes the same temporaries and frees them, many megabytes for a prompt. On most Linux systems memory comes
from glibc, which gives such amounts back at once; the next layer gets them page by page, in hundreds of thousands of
page faults for a prompt. Where glibc keeps what was freed, a long prompt is read in much less time, and a training step
in a little less.

The allocator is the whole process's, and what it keeps no other process can have. So importing this package changes
nothing: whose process it is calls `keep_freed_memory`. The command line does, and the notebooks where it pays.
"""

from __future__ import annotations

import ctypes
import os
import sys

KEPT_BYTES = 2**30  # what is free beyond this, at the end of the heap, goes back to the system

# Names of options in glibc's malloc.h, and variables by which a user sets them before a process begins.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")

_kept = False  # whether this process keeps it; glibc does not tell


def keep_freed_memory() -> bool:
    """Let this process keep about 1 GiB of what it frees, from now on; whether it does.

    It changes nothing without glibc, with one older than 2.35, which does not keep blocks above 32 MiB, and where the
    environment has settings for its allocator already: `MALLOC_TRIM_THRESHOLD_=131072` is glibc's own.
    """
    global _kept
    if sys.platform != "linux" or any(name in os.environ for name in SET_BY_USER):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # another C library may have none
    if mallopt is None:
        return False
    # Either option alone stops glibc from adapting the other to what the process does, which is worse than none. Only
    # the first can be refused, so nothing is to be taken back.
    _kept = mallopt(M_MMAP_THRESHOLD, KEPT_BYTES) == 1 and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES) == 1
    return _kept


def report() -> tuple[str, str]:
    """What becomes of freed memory in this process: a row of a name and its value."""
    settings = [f"{name}={os.environ[name]}" for name in SET_BY_USER if name in os.environ]
    if settings:
        return "freed memory", f"as the environment says: {', '.join(settings)}"
    return "freed memory", "about 1 GiB is kept" if _kept else "goes back to the system, as the C library does it"
