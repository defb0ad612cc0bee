"""Troubles of the database and the disk that pass by themselves or by an administrator's hand: they are waited out."""

from __future__ import annotations

import errno
import logging
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.errors import Busy, NoSpace

log = logging.getLogger("pellucid.store")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0

_DISK = (errno.ENOSPC, errno.EDQUOT)
_SQLITE = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
)
_POSTGRESQL = ("08", "25P03", "40001", "40P01", "53", "57P", "58")
"""SQLSTATE (PostgreSQL, appendix A): connection, idle in a transaction, serialization, deadlock, resources, operator, system."""

T = TypeVar("T")


def passes(error: BaseException) -> bool:
    """Whether an error is the database's (locked, away) or the disk's (full) or a full house, and not of what was to be done."""
    if isinstance(error, (Busy, NoSpace, PoolTimeout)):
        return True
    if isinstance(error, OSError):
        return error.errno in _DISK
    if not isinstance(error, DBAPIError):
        return False
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE
    state = getattr(cause, "sqlstate", None)
    # Without a state the server never answered: psycopg says so when a connection cannot be made or breaks
    return error.connection_invalidated or (
        state.startswith(_POSTGRESQL) if state else type(cause).__name__ == "OperationalError"
    )


def wait_out(action: Callable[[], T], stopping: Callable[[], bool]) -> T:
    """Do something until no passing trouble is in the way; what it raises otherwise, or when the service stops, is raised.

    `action` may have taken effect although it raised (a connection that broke during a commit): doing it again must do no harm.
    """
    pause = FIRST_PAUSE_S
    while True:
        try:
            return action()
        except Exception as error:
            if not passes(error) or stopping():
                raise
            log.warning("the database or the disk does not take it (%s); tried again in %g s", kind(error), pause)
        rest(pause, stopping)
        pause = min(2 * pause, LONGEST_PAUSE_S)


def rest(seconds: float, stopping: Callable[[], bool]) -> None:
    """Sleep, but not into a stop."""
    end = time.monotonic() + seconds
    while not stopping() and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))


def kind(error: BaseException) -> str:
    """The kind of an error, for the log; never its message."""
    cause = getattr(error, "orig", None)
    return type(cause or error).__name__
