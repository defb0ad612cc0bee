"""Timing two things in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def pairs(first: Callable[[], object], second: Callable[[], object], rounds: int = 9) -> dict[str, Any]:
    """Run both in turn, A B A B ..., after one warm-up each; the ratio is taken pair by pair.

    Returns
    -------
    dict
        Median ratio first / second with its range, and the median milliseconds of each.
    """
    first(), second()
    times = [(seconds(first), seconds(second)) for _ in range(rounds)]
    ratios = [a / b for a, b in times]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "range": [round(min(ratios), 3), round(max(ratios), 3)],
        "ms": [round(1000 * statistics.median(column), 1) for column in zip(*times, strict=True)],
        "rounds": rounds,
    }
