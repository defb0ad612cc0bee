"""docs/conformance.md as a reader sees it: its tables, found by their section and first heading."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"


def section(title: str, document: str = "conformance.md") -> str:
    """The text below a heading, up to the next one of the same or a higher level."""
    text = (DOCS / document).read_text(encoding="utf-8")
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,6}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{document} has no section {title!r}"
    return found[2]


def rows(title: str, first: str, document: str = "conformance.md") -> list[dict[str, str]]:
    """Rows of the table of a section whose first column is called `first`; code signs are taken off."""
    for block in section(title, document).split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        cells = [[re.sub(r"`", "", cell).strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
        if cells and cells[0][0] == first:
            return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]
    raise AssertionError(f"section {title!r} of {document} has no table {first!r}")
