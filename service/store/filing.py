"""What becomes of an instance that is to be filed in the archive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from service.records import Instance


@dataclass(frozen=True)
class Filed:
    """What became of one instance that was to be filed.

    Attributes
    ----------
    outcome : str
        stored; repeated: the same content is there already; conflict: the UID is there with other content, which stays;
        no_space: the disk had no room for it.
    instance : Instance
        With the path where it lies now (stored, repeated), else as it was given.
    origin : str
        Door of what is in the archive under this UID, "result" for our own; empty where there is nothing.
    """

    outcome: Literal["stored", "repeated", "conflict", "no_space"]
    instance: Instance
    origin: str = ""
