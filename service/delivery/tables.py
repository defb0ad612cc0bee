"""From the tables of the settings to destinations: every key known, of its type, within its limits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from service.delivery.destinations import KINDS, Destination

_FILE = "_file"
_LARGEST_SECRET = 16384


def parse(tables: Sequence[Any], our_ae: str = "PELLUCID") -> tuple[Destination, ...]:
    """Destinations of the settings.

    Parameters
    ----------
    tables : sequence of mapping
        TOML tables, or the same out of JSON. A secret KEY may be given as KEY_file, the file that holds it.
    our_ae : str
        Calling AE title of destinations that name none.

    Raises
    ------
    ValueError
        Names the destination, the key and what is allowed; never a secret.
    """
    if not isinstance(tables, (list, tuple)):
        raise ValueError("is not a list of tables")
    found: dict[str, Destination] = {}
    for number, table in enumerate(tables, 1):
        if not isinstance(table, Mapping):
            raise ValueError(f"destination {number}: is not a table")
        label = f"destination {table['name']!r}" if isinstance(table.get("name"), str) else f"destination {number}"
        destination = _one(table, label, our_ae)
        if destination.name in found:
            raise ValueError(f"{label}: there are two of this name")
        found[destination.name] = destination
    return tuple(found.values())


def _one(table: Mapping[str, Any], label: str, our_ae: str) -> Destination:
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"{label}: kind is none of {', '.join(KINDS)}")
    known = {entry.name: entry for entry in fields(KINDS[kind])}
    values: dict[str, Any] = {"calling_ae": our_ae} if "calling_ae" in known else {}
    for name, value in table.items():
        if name == "kind":
            continue
        target = name
        if name not in known and _is_secret_file(name, known):
            target = name.removesuffix(_FILE)
            if target in table:
                raise ValueError(f"{label}: {target} and {name} exclude each other")
            value = _read_secret(value, f"{label}: {name}")
        if target not in known:
            raise ValueError(f"{label}: there is no key {name!r} for kind {kind}; there are {', '.join(_keys(known))}")
        values[target] = _convert(known[target], value, f"{label}: {name}")
    for name, entry in known.items():
        if name not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise ValueError(f"{label}: {name} is missing ({entry.metadata['help']})")
    destination = KINDS[kind](**values)
    for problem in destination.problems():
        raise ValueError(f"{label}: {problem}")
    return destination


def _is_secret_file(name: str, known: Mapping[str, Field[Any]]) -> bool:
    """Whether `name` is KEY_file of a secret text KEY."""
    entry = known.get(name.removesuffix(_FILE)) if name.endswith(_FILE) else None
    return entry is not None and bool(entry.metadata.get("secret")) and entry.metadata["type"] is str


def _keys(known: Mapping[str, Field[Any]]) -> list[str]:
    names = ["kind", *known]
    return names + [name + _FILE for name in known if _is_secret_file(name + _FILE, known)]


def _read_secret(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where} is not a text")
    try:
        with Path(value).open(encoding="utf-8") as opened:
            text = opened.read(_LARGEST_SECRET).strip()
    except (OSError, UnicodeDecodeError, ValueError):
        raise ValueError(f"{where}: the file cannot be read") from None
    if not text:
        raise ValueError(f"{where}: the file is empty")
    return text


def _convert(entry: Field[Any], value: Any, where: str) -> Any:
    """The value as its key's type; refuses what is not allowed, and shows it unless it is a secret."""
    limits = entry.metadata
    kind: type[Any] = limits["type"]
    shown = "" if limits.get("secret") else f" {value!r}"

    def wrong(why: str) -> ValueError:
        return ValueError(f"{where}{shown} {why} ({limits['help']})")

    if kind is bool:
        if not isinstance(value, bool):
            raise wrong("is neither true nor false")
        return value
    if kind in (int, float):
        accepted = int if kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, accepted):
            raise wrong("is not a whole number" if kind is int else "is not a number")
        if not limits["low"] <= value <= limits["high"]:
            raise wrong(f"is outside {limits['low']}..{limits['high']}")
        return kind(value)
    if kind is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise wrong("is not a list of texts")
        if limits.get("filled") and not value:
            raise wrong("is empty")
        return tuple(_text(limits, item, wrong) for item in value)
    if kind is dict:
        if not isinstance(value, Mapping) or not all(isinstance(item, str) for pair in value.items() for item in pair):
            raise wrong("is not a table of texts")
        return tuple(value.items())
    return _text(limits, value, wrong)


def _text(limits: Mapping[str, Any], value: Any, wrong: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise wrong("is not a text")
    if "choices" in limits and value not in limits["choices"]:
        raise wrong(f"is none of {', '.join(limits['choices'])}")
    if "pattern" in limits and not re.fullmatch(limits["pattern"], value):
        raise wrong("is not allowed")
    if len(value) < limits.get("shortest", 0):
        raise wrong(f"is shorter than {limits['shortest']} characters; make one with: openssl rand -hex 24")
    return value
