from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.errors import NotFound
from service.maps.arrays import load, npz, save
from service.records import ResponseMap


def opened(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return dict(stored)


@pytest.fixture
def maps(make: Callable[..., ResponseMap], response: np.ndarray) -> ResponseMap:
    return make(np.stack([response, -response]))


def test_clear(maps: ResponseMap) -> None:
    found = opened(npz(maps, "clear"))
    assert found["dominant_class"].dtype == np.int8
    np.testing.assert_array_equal(found["dominant_class"][0], [[0, -1, -1], [1, -1, 0]])
    np.testing.assert_array_equal(found["strength"][1], [[8, 5, 1], [0, 4, 0]])


def test_one_class_is_signed_and_unnormalised(maps: ResponseMap, response: np.ndarray) -> None:
    found = opened(npz(maps, "class-b"))
    assert found["response"].dtype == np.float32
    np.testing.assert_array_equal(found["response"], np.stack([response[1], -response[1]]))


def test_two_sided_names_its_class(maps: ResponseMap) -> None:
    found = opened(npz(maps, "two-sided"))
    assert found["chosen_class"] == "c"
    np.testing.assert_array_equal(found["hot"][0], [[0, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(found["other"][0], [[4, 0, 0], [3, 0, 2]])


@pytest.mark.parametrize("kind", ["clear", "class-a", "two-sided"])
def test_everything_needed_to_use_the_arrays_travels_along(maps: ResponseMap, kind: str) -> None:
    found = opened(npz(maps, kind))
    assert found["kind"] == kind
    assert list(found["classes"]) == ["a", "b", "c"]
    assert list(found["source_uids"]) == ["2.25.1", "2.25.2"]
    assert (found["rule"], found["start"], found["peak_slice"]) == ("guided", "contrast", 1)
    assert found["scale_per_model"] == 2
    assert found["scale_per_image"] == 8
    np.testing.assert_array_equal(found["box_px"][0], [10.5, -2, 34.5, 22])
    np.testing.assert_allclose(found["probabilities"], [1 / 6, 2 / 6, 3 / 6])


def test_unknown_kind(maps: ResponseMap) -> None:
    with pytest.raises(NotFound):
        npz(maps, "class-d")


@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 5, 4, 3)])
def test_save_and_load_change_nothing(
    maps: ResponseMap, make: Callable[..., ResponseMap], tmp_path: Path, shape: tuple[int, ...]
) -> None:
    background = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    before = make(maps.response, background)
    save(before, tmp_path / "n1.npz")
    after = load(tmp_path / "n1.npz")
    for name in ResponseMap.__dataclass_fields__:
        value, again = getattr(before, name), getattr(after, name)
        assert type(again) is type(value), name
        np.testing.assert_array_equal(again, value)
        assert not isinstance(value, np.ndarray) or again.dtype == value.dtype
    assert [path.name for path in tmp_path.iterdir()] == ["n1.npz"]
