"""Give freed memory back to the system: glibc keeps what it has freed, which looks like memory growing with T."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8


def return_freed_memory(threshold: int = 1 << 20) -> bool:
    """Ask glibc to take blocks of ``threshold`` bytes or more straight from the system and to return them when freed.

    It holds for the whole process, so the command line calls it and the library does not. Costs page faults on every
    large tensor, which ``benchmarks/memory.py`` measures. Returns whether it took effect (it cannot outside glibc).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_THRESHOLD, threshold), (M_TRIM_THRESHOLD, threshold), (M_ARENA_MAX, 1))
    return all(bool(mallopt(option, value)) for option, value in settings)
