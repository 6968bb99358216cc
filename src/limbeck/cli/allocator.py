"""The C allocator: glibc keeps what it has freed, which looks like memory growing with T, or returns it too eagerly."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8


def tune_allocator(lean: bool = False) -> bool:
    """Choose between speed and resident memory in glibc's allocator, for the whole process.

    By default glibc moves its thresholds as it goes, gives the top of the heap back after almost every tensor and pays
    for it with page faults: a fixed, high threshold made LeNet's real batch 1.3 times faster. With ``lean``, blocks
    of a megabyte or more are taken from the system and returned when freed: the peak of a ConvNet's inner loop fell to
    half, and LeNet took twice as long. The command line calls this; the library leaves the process alone.

    Returns whether it took effect (it cannot outside glibc).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    mmap, trim = (1 << 20, 1 << 20) if lean else (1 << 25, 1 << 28)
    settings = ((M_MMAP_THRESHOLD, mmap), (M_TRIM_THRESHOLD, trim), (M_ARENA_MAX, 1))
    return all(bool(mallopt(option, value)) for option, value in settings)
