"""Tables and values as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.sr.coding import Code
from pydicom.uid import UID

_UNITS = ((30, "GiB"), (20, "MiB"), (10, "KiB"))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; pipes in cells are escaped, line ends become spaces."""

    def line(cells: Sequence[object]) -> str:
        texts = (" ".join(str(cell).replace("|", "\\|").split()) for cell in cells)
        return "| " + " | ".join(texts) + " |"

    return "\n".join([line(header), line(["---"] * len(header)), *(line(row) for row in rows)])


def size(count: float) -> str:
    """Bytes for a person, where they are a whole number of a larger unit; else the number."""
    for shift, unit in _UNITS:
        if count and count % (1 << shift) == 0:
            return f"{int(count) >> shift} {unit}"
    return f"{count:g} bytes"


def uid(value: str) -> str:
    """Name of a registered UID; the UID itself where it has none."""
    return UID(value).name


def element(tag: str) -> str:
    """Keyword and tag of an attribute, from its tag as eight hexadecimal digits."""
    return f"{keyword_for_tag(int(tag, 16))} ({tag[:4]},{tag[4:]})"


def keyword(name: str) -> str:
    """Keyword and tag of an attribute, from its keyword."""
    number = tag_for_keyword(name)
    if number is None:
        raise ValueError(f"{name} is no keyword of the DICOM dictionary")
    return element(f"{number:08X}")


def concept(code: Code) -> str:
    """A coded concept as PS3.16 writes it."""
    return f'({code.value}, {code.scheme_designator}, "{code.meaning}")'


def status(number: int) -> str:
    """A DIMSE status."""
    return f"`{number:04X}`"
