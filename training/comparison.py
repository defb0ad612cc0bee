"""What the comparisons of explanations have in common: Markdown tables and rounded numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def table(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first line is its head."""
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, f"|{'---|' * len(lines[0])}", *body])


def cell(entry: dict[str, Any] | None, *, interval: bool = False, first: bool = False) -> str:
    """A figure with its interval on demand, bold where it is the first; empty where it was not measured."""
    if entry is None or entry["value"] is None:
        return ""
    digits = 1 if abs(entry["value"]) >= 2 else 2 if abs(entry["value"]) >= 1 else 3
    text = f"{entry['value']:.{digits}f}"
    text = f"**{text}**" if first else text
    return f"{text} [{entry['interval'][0]:.2f}, {entry['interval'][1]:.2f}]" if interval else text


def code(name: str) -> str:
    """A method's name as code, safe within a table."""
    return f"`{name}`".replace("|", "\\|")


def rounded(value: Any) -> Any:
    """JSON values with floats to four significant digits."""
    return json.loads(json.dumps(value), parse_float=lambda text: float(f"{float(text):.4g}"))
