"""How many connections and associations every receiver has, in memory that all share: one limit, and evenly shared work."""

from __future__ import annotations

import mmap
import os
import struct
import threading

_SLOT = struct.Struct("<ll")
_GONE = (-1, 0)


class SharedCrowd:
    """A table of two counts a receiver, each written by its receiver only.

    Parameters
    ----------
    descriptor : int
        Of the memory; see `make`.
    slots : int
        Number of receivers.
    mine : int
        Slot of this one; -1 for the parent.
    limit : int
        Associations of all together.
    """

    def __init__(self, descriptor: int, slots: int, mine: int, limit: int) -> None:
        self._memory = mmap.mmap(descriptor, _SLOT.size * slots)
        self._slots, self._mine, self._limit = slots, mine, limit
        self._connections = self._associations = 0
        self._lock = threading.Lock()

    @staticmethod
    def make(slots: int) -> int:
        """Descriptor of new shared memory, all receivers gone."""
        descriptor = os.memfd_create("associations")
        os.write(descriptor, _SLOT.pack(*_GONE) * slots)
        return descriptor

    def gone(self, slot: int) -> None:
        """Note that a receiver does not run."""
        _SLOT.pack_into(self._memory, _SLOT.size * slot, *_GONE)

    def connections(self, count: int) -> None:
        """Set the number of this receiver's connections, with an association or not yet."""
        with self._lock:
            self._connections = count
            self._put()

    def enter(self) -> bool:
        """Count one more association; False, and not counted, where there would be more than allowed."""
        with self._lock:
            self._associations += 1
            self._put()
            if self.associations() <= self._limit:
                return True
            self._associations -= 1
            self._put()
            return False

    def leave(self) -> None:
        """Count one association less."""
        with self._lock:
            self._associations -= 1
            self._put()

    def associations(self) -> int:
        """Associations of all receivers."""
        return sum(slot[1] for slot in self._table())

    def busiest(self) -> bool:
        """Whether another receiver has fewer connections than this one."""
        return any(0 <= slot[0] < self._connections for slot in self._table())

    def _put(self) -> None:
        _SLOT.pack_into(self._memory, _SLOT.size * self._mine, self._connections, self._associations)

    def _table(self) -> list[tuple[int, int]]:
        return [_SLOT.unpack_from(self._memory, _SLOT.size * slot) for slot in range(self._slots)]
