"""What becomes of an instance that is to be filed in the archive."""

from __future__ import annotations

import filecmp
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from service.records import Instance


@dataclass(frozen=True)
class Filed:
    """What became of one instance that was to be filed.

    Attributes
    ----------
    outcome : str
        stored; repeated: the same data set is there already; conflict: the UID is there with another data set, which stays;
        no_space: the disk had no room for it.
    instance : Instance
        With the path where it lies now (stored, repeated: as it was filed first), else as it was given.
    origin : str
        Door of what is in the archive under this UID, "result" for our own; empty where there is nothing.
    """

    outcome: Literal["stored", "repeated", "conflict", "no_space"]
    instance: Instance
    origin: str = ""


_PREFIX, _GROUP_LENGTH = 128, struct.Struct("<4sHH2sHL")


def same_data_set(one: Path, two: Path) -> bool:
    """Whether two Part 10 files differ in their preamble and File Meta Information at most.

    The same instance by way of another AE title, or by STOW-RS after C-STORE, is the same instance. The encoding must be the
    same, too. Source: PS3.10 7.1; without a Group Length (0002,0000) whole files are compared.
    """
    with one.open("rb") as first, two.open("rb") as second:
        starts = _data_set(first), _data_set(second)
        if None in starts:
            return filecmp.cmp(one, two, shallow=False)
        while True:
            left, right = first.read(1 << 20), second.read(1 << 20)
            if left != right:
                return False
            if not left:
                return True


def _data_set(stream: BinaryIO) -> int | None:
    """Go to where the data set begins; None where the meta information does not say."""
    stream.seek(_PREFIX)
    head = stream.read(_GROUP_LENGTH.size)
    if len(head) < _GROUP_LENGTH.size:
        return None
    prefix, group, element, vr, length, value = _GROUP_LENGTH.unpack(head)
    if (prefix, group, element, vr, length) != (b"DICM", 2, 0, b"UL", 4):
        return None
    return stream.seek(_PREFIX + _GROUP_LENGTH.size + value)
