"""How long to wait before the next attempt."""

from __future__ import annotations

import hashlib
import math

SPREAD = 0.25
"""Share of a wait that differs from delivery to delivery, so that a destination which comes back is not met by all at once."""


def wait_s(attempt: int, first: float, longest: float, key: str) -> float:
    """Seconds to wait after a failed attempt: doubling, bounded, and spread by a fraction that depends on `key` only.

    Parameters
    ----------
    attempt : int
        Number of attempts that have failed, from 1.
    first, longest : float
        Seconds after the first failed attempt, and at most.
    key : str
        Id of the delivery. The same delivery and attempt always give the same wait.

    Returns
    -------
    float
        Seconds, in (0.75 w, w] with w = min(longest, first * 2^(attempt - 1)).
    """
    if attempt < 1:
        raise ValueError(f"attempt {attempt}: attempts are counted from 1")
    whole = min(longest, math.ldexp(first, min(attempt - 1, 64)))
    digest = hashlib.sha256(f"{key}:{attempt}".encode()).digest()
    return whole * (1 - SPREAD * int.from_bytes(digest[:4]) / 2**32)
