"""Freed memory goes back to the system: two settings and one call of glibc. Other C libraries are left alone."""

from __future__ import annotations

import ctypes
import sys

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def settle() -> None:
    """Give large blocks back when they are freed, and share malloc's pools between threads.

    By itself glibc moves the limit above which it does so up to 32 MiB, and keeps a pool a thread: after a few photographs
    the process then holds three times the memory it needs.
    """
    mallopt = getattr(_LIBC, "mallopt", None)
    if mallopt is not None:
        mmap_threshold, arena_max = -3, -8  # malloc.h
        mallopt(mmap_threshold, 1 << 20)
        mallopt(arena_max, 2)


def give_back() -> None:
    """Give back the small blocks that are free, too: a few milliseconds after an inference, a third of the process' memory."""
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)
