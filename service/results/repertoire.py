"""Which texts a Specific Character Set (0008,0005) can hold (PS3.3 C.12.1.1.2, PS3.5 6.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom import charset

UTF_8 = "ISO_IR 192"
_ASCII = ("", "ISO_IR 6", "ISO 2022 IR 6")
_KATAKANA = ("ISO_IR 13", "ISO 2022 IR 13")
_ESCAPES = {"ISO 2022 IR 87": b"\x1b$B", "ISO 2022 IR 159": b"\x1b$(D"}
"""Python's codecs of these terms also switch to sets that the terms do not name."""


def holds(names: Sequence[str], texts: Iterable[str]) -> bool:
    """Tell whether every text can be written.

    Parameters
    ----------
    names : sequence of str
        Values of the attribute; a term that the standard does not define holds nothing.
    texts : iterable of str
    """
    if any(name not in charset.python_encoding for name in names):
        return False
    return all(
        character.isascii() or any(_holds(name, character) for name in names) for text in texts for character in text
    )


def _holds(name: str, character: str) -> bool:
    if name in _ASCII:
        return False
    if name in _KATAKANA:
        return "\uff61" <= character <= "\uff9f"
    try:
        encoded = character.encode(charset.python_encoding[name])
    except UnicodeEncodeError:
        return False
    return encoded.startswith(_ESCAPES.get(name, b""))
