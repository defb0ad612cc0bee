"""What a sender asks for: the `request` part of ``POST /api/v1/analyses``, checked key by key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from service.errors import InputError
from service.records import Region, Request

MAPS = ("clear", "class", "two_sided")
OBJECTS = ("SR", "SEG", "PM", "SC", "KOS")
MAX_REGIONS = 64

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_UID = re.compile(r"[0-9][0-9.]{0,63}")


class InvalidRequest(InputError):
    """A part of the request has a wrong name, type or value."""

    status, slug, title = 422, "invalid-request", "The request holds something this service does not understand"


def invalid(where: str, message: str, **more: Any) -> InvalidRequest:
    """The error for one key of the request."""
    return InvalidRequest(f"request: {where}: {message}", [{"where": where, "message": message, **more}])


def parse(body: Any) -> Request:
    """Check a decoded JSON body.

    Raises
    ------
    InvalidRequest
        Naming the key, for unknown keys, wrong types and values outside what is allowed.
    """
    keys = _mapping(body, "request", {entry.name for entry in fields(Request)} - {"named_eye"})
    values: dict[str, Any] = {}
    for name in ("model", "operating_point"):
        if keys.get(name) is not None:
            values[name] = _text(keys[name], name)
    if keys.get("laterality") is not None:
        values["laterality"] = _one_of(keys["laterality"], "laterality", ("R", "L"))
    for name, allowed in (("maps", MAPS), ("objects", OBJECTS)):
        if keys.get(name) is not None:
            values[name] = tuple(
                dict.fromkeys(_one_of(item, name, allowed) for item in _list(keys[name], name, len(allowed)))
            )
    if keys.get("pixel_spacing_mm") is not None:
        spacing = _number(keys["pixel_spacing_mm"], "pixel_spacing_mm")
        if not 0.05 <= spacing <= 10:
            raise invalid(
                "pixel_spacing_mm", f"{spacing:g} mm is not a spacing of a CT image", value=spacing, limit=[0.05, 10]
            )
        values["pixel_spacing_mm"] = spacing
    if keys.get("regions") is not None:
        regions = [_region(item, n) for n, item in enumerate(_list(keys["regions"], "regions", MAX_REGIONS))]
        names = [region.id for region in regions]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise invalid("regions", f"the id {repeated[0]} is used more than once")
        values["regions"] = tuple(regions)
    return Request(**values)


def _region(body: Any, number: int) -> Region:
    where = f"regions[{number}]"
    keys = {
        k: v
        for k, v in _mapping(body, where, {"id", "center_mm", "sop_instance_uid", "center_px"}).items()
        if v is not None
    }
    identity = _text(keys.get("id", f"region-{number + 1}"), f"{where}.id")
    if not _NAME.fullmatch(identity):
        raise invalid(
            f"{where}.id",
            "must be 1 to 64 letters, digits, dots, dashes or underscores and start with a letter or digit",
        )
    if "center_mm" in keys and not {"sop_instance_uid", "center_px"} & set(keys):
        x, y, z = _numbers(keys["center_mm"], f"{where}.center_mm", 3)
        return Region(identity, center_mm=(x, y, z))
    if {"sop_instance_uid", "center_px"} <= set(keys) and "center_mm" not in keys:
        uid = _text(keys["sop_instance_uid"], f"{where}.sop_instance_uid")
        if not _UID.fullmatch(uid):
            raise invalid(f"{where}.sop_instance_uid", "is not a UID")
        column, row = _numbers(keys["center_px"], f"{where}.center_px", 2)
        return Region(identity, sop_instance_uid=uid, center_px=(column, row))
    raise invalid(
        where, 'give either "center_mm": [x, y, z] in patient mm, or "sop_instance_uid" with "center_px": [column, row]'
    )


def _mapping(value: Any, where: str, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise invalid(where, "must be a JSON object")
    unknown = sorted(set(value) - known)
    if unknown:
        raise invalid(f"{where}.{unknown[0][:64]}", f"there is no such key; known are {', '.join(sorted(known))}")
    return value


def _list(value: Any, where: str, longest: int) -> list[Any]:
    if not isinstance(value, list):
        raise invalid(where, "must be a list")
    if len(value) > longest:
        raise invalid(where, f"has {len(value)} entries, the limit is {longest}", value=len(value), limit=longest)
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 64:
        raise invalid(where, "must be a text of 1 to 64 characters")
    return value


def _one_of(value: Any, where: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise invalid(where, f"must be one of {', '.join(allowed)}")
    return str(value)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= 1e9:  # NaN fails here, too
        raise invalid(where, "must be a finite number")
    return float(value)


def _numbers(value: Any, where: str, count: int) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != count:
        raise invalid(where, f"must be a list of {count} numbers")
    return tuple(_number(item, where) for item in value)


def to_json(request: Request) -> dict[str, Any]:
    """The request as the JSON object that `stored` reads."""
    body = {name: value for name, value in asdict(request).items() if value is not None}
    empty = Region("")
    body["regions"] = [
        {name: value for name, value in asdict(region).items() if value != getattr(empty, name)}
        for region in request.regions
    ]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in body.items()}


def stored(body: Mapping[str, Any]) -> Request:
    """The request that `to_json` wrote. Not for what comes from outside: that goes through `parse`."""
    regions = [{name: _tuple(value) for name, value in region.items()} for region in body.get("regions", [])]
    values = {name: _tuple(value) for name, value in body.items()}
    return Request(**{**values, "regions": tuple(Region(**region) for region in regions)})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
