"""Waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(
    condition: Callable[[], Any], seconds: float = 60, what: str | Callable[[], Any] = "it did not happen in time"
) -> Any:
    """The first true value of `condition`; after so many seconds an AssertionError that says `what`, or what that returns."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.01)
    return found
