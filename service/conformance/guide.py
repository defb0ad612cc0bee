"""The generated tables inside hand-written documents: settings, keys of destinations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from service.config import MIN_TOKEN_LENGTH, Settings
from service.conformance.tables import size, table
from service.delivery.destinations import KINDS

_BEGIN, _END = "<!-- {}: written by `make conformance` -->", "<!-- end of {} -->"


def settings_table() -> str:
    """Every setting with default, limits and help."""
    return table(
        ("setting", "default", "allowed", "what it is"),
        [
            (f"`{entry.name}`", _default(entry), _allowed(entry), entry.metadata["help"])
            for entry in fields(Settings)
        ],
    )  # fmt: skip


def _default(entry: Field[Any]) -> str:
    value: Any = entry.default
    if entry.name == "models_dir":
        return "the repository's `models`"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value) or "none"
    if value == "":
        return "`` (empty)"
    known = f" ({size(value)})" if entry.name.endswith("bytes") and size(value) != f"{value} bytes" else ""
    return f"`{value}`{known}"


def _allowed(entry: Field[Any]) -> str:
    limits = entry.metadata
    if "choices" in limits:
        return ", ".join(f"`{choice}`" for choice in limits["choices"])
    if entry.name == "tokens":
        return f"texts of at least {MIN_TOKEN_LENGTH} characters"
    low, high = limits.get("low"), limits.get("high", math.inf)
    if low is None:
        return ""
    return f"{low} to {high}" if high < math.inf else f"at least {low}"


def destination_table() -> str:
    """Every key of a destination, with the kinds that have it."""
    found: dict[str, tuple[Field[Any], list[str]]] = {}
    for kind, described in KINDS.items():
        for entry in fields(described):
            found.setdefault(entry.name, (entry, []))[1].append(kind)
    kinds = ", ".join(f"`{kind}`" for kind in KINDS)
    rows: list[tuple[str, str, str, str]] = [("`kind`", "all", "required", f"one of {kinds}")]
    for name, (entry, having) in found.items():
        where = "all" if len(having) == len(KINDS) else ", ".join(having)
        rows.append((f"`{name}`", where, _key_default(entry), "; ".join(_key_help(entry))))
    return table(("key", "kind", "default", "what it is"), rows)


def _key_default(entry: Field[Any]) -> str:
    if entry.default is MISSING:
        return "required"
    if entry.default in ((), ""):
        return "-"
    value = entry.default
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return ", ".join(f"`{item}`" for item in value) if isinstance(value, tuple) else f"`{value}`"


def _key_help(entry: Field[Any]) -> Iterator[str]:
    limits = entry.metadata
    yield limits["help"]
    if "choices" in limits:
        yield "of " + ", ".join(f"`{choice}`" for choice in limits["choices"])
    if "low" in limits and limits["type"] in (int, float):
        yield f"{limits['low']} to {limits['high']}"
    if "shortest" in limits:
        yield f"at least {limits['shortest']} characters"
    if limits.get("secret") and limits["type"] is str:
        yield f"or `{entry.name}_file`, the file that holds it"


BLOCKS = {"settings": settings_table, "destinations": destination_table}


def filled(document: str) -> str:
    """A document with its generated tables renewed; they stand between two comments that name them."""
    for name, make in BLOCKS.items():
        begin, end = _BEGIN.format(name), _END.format(name)
        if begin in document:
            head, rest = document.split(begin)
            document = f"{head}{begin}\n{make()}\n{end}{rest.split(end)[1]}"
    return document


def write(folder: Path) -> None:
    """Write the statements and renew the tables of the documents in a folder."""
    for name, text in documents(folder).items():
        (folder / name).write_text(text, encoding="utf-8")


def documents(folder: Path) -> dict[str, str]:
    """Name and text of everything that is generated, wholly or in part, in the folder of the documents."""
    from models.bundle import load
    from service.config import MODELS
    from service.conformance import integration, statement

    bundles = {path.parent.name: load(path.parent) for path in sorted(MODELS.glob("*/model.json"))}
    partly = {name: filled((folder / name).read_text(encoding="utf-8")) for name in ("configuration.md", "pacs.md")}
    return {"conformance.md": statement.text(Settings(), bundles), "ihe.md": integration.text(), **partly}
