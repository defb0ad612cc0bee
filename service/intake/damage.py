"""Decoders raise anything on foreign bytes; here it becomes one clear error. Runs in the child only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import InputError

_NO_MEMORY = re.compile(r"\bmemory\b|bad_alloc", re.IGNORECASE)


@contextmanager
def reading(detail: str) -> Iterator[None]:
    """Turn whatever a foreign library raises inside into an InputError with our own text.

    A library's message is never passed on: it may quote the file. Its word for a lack of memory becomes MemoryError.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # a decoder written in Rust
            raise
        if _NO_MEMORY.search(str(error)):
            raise MemoryError from error
        raise InputError(detail) from error
