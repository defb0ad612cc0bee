"""The request part: every key with good and bad values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.pipeline.request import InvalidRequest, parse, to_json
from service.records import Region, Request


def test_nothing_gives_the_defaults() -> None:
    assert parse({}) == Request() == parse({"model": None, "laterality": None, "regions": None, "maps": None})


def test_all_keys_are_read_and_survive_a_json_round_trip() -> None:
    body = {
        "model": "sisc_lung",
        "laterality": "L",
        "regions": [{"id": "n.1", "center_mm": [1, -2.5, 3]}, {"sop_instance_uid": "1.2.3", "center_px": [10, 20]}],
        "maps": ["clear"],
        "objects": ["SR"],
        "operating_point": "balanced",
        "pixel_spacing_mm": 0.7,
    }
    request = parse(body)
    assert request.regions == (
        Region("n.1", center_mm=(1.0, -2.5, 3.0)),
        Region("region-2", sop_instance_uid="1.2.3", center_px=(10.0, 20.0)),
    )
    assert (request.model, request.laterality, request.maps, request.objects) == ("sisc_lung", "L", ("clear",), ("SR",))
    assert (request.operating_point, request.pixel_spacing_mm) == ("balanced", 0.7)
    assert parse(json.loads(json.dumps(to_json(request)))) == request


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ([], "request"),
        ({"modle": "x"}, "modle"),
        ({"model": 1}, "model"),
        ({"model": "x" * 65}, "model"),
        ({"laterality": "both"}, "laterality"),
        ({"maps": "clear"}, "maps"),
        ({"maps": ["two-sided"]}, "maps"),
        ({"maps": [["clear"]]}, "maps"),
        ({"objects": ["PDF"]}, "objects"),
        ({"operating_point": ["balanced"]}, "operating_point"),
        ({"pixel_spacing_mm": "0.7"}, "pixel_spacing_mm"),
        ({"pixel_spacing_mm": True}, "pixel_spacing_mm"),
        ({"pixel_spacing_mm": 0}, "pixel_spacing_mm"),
        ({"pixel_spacing_mm": float("nan")}, "pixel_spacing_mm"),
        ({"pixel_spacing_mm": 10**400}, "pixel_spacing_mm"),
        ({"regions": {}}, "regions"),
        ({"regions": [1]}, "regions[0]"),
        ({"regions": [{}]}, "regions[0]"),
        ({"regions": [{"center_mm": [1, 2]}]}, "regions[0].center_mm"),
        ({"regions": [{"center_mm": [1, 2, "3"]}]}, "regions[0].center_mm"),
        ({"regions": [{"center_mm": [1, 2, float("inf")]}]}, "regions[0].center_mm"),
        ({"regions": [{"center_mm": [1, 2, 3], "center_px": [1, 2]}]}, "regions[0]"),
        ({"regions": [{"center_px": [1, 2]}]}, "regions[0]"),
        ({"regions": [{"sop_instance_uid": "1.2; DROP", "center_px": [1, 2]}]}, "regions[0].sop_instance_uid"),
        ({"regions": [{"id": "../x", "center_mm": [1, 2, 3]}]}, "regions[0].id"),
        ({"regions": [{"id": "..", "center_mm": [1, 2, 3]}]}, "regions[0].id"),
        ({"regions": [{"id": "a", "center_mm": [1, 2, 3]}] * 2}, "regions"),
        ({"regions": [{"center_mm": [1, 2, 3]}] * 65}, "regions"),
        ({"regions": [{"center_mm": [1, 2, 3], "z": 1}]}, "regions[0].z"),
    ],
)
def test_wrong_values_are_refused_and_the_key_is_named(body: Any, key: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(body)
    assert caught.value.status == 422
    assert caught.value.errors[0]["where"].removeprefix("request.") == key
    assert key in caught.value.detail
