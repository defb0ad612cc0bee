"""The candidate finder on chests drawn in patient coordinates, on what is no chest, and on the real CT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from service.intake import candidates
from service.intake.candidates import Search
from service.intake.sandbox import Sandbox
from service.intake.series import arrange
from service.intake.stack import Stack
from service.intake.volume import read
from service.records import Instance

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
Points = tuple[np.ndarray, np.ndarray, np.ndarray]
Scene = Callable[[Points], np.ndarray]


def instances(
    count: int = 50,
    step: float = 2.0,
    size: tuple[int, int] = (150, 200),
    spacing: tuple[float, float] = (1.4, 1.4),
    orientation: tuple[float, ...] = AXIAL,
    way: Sequence[float] = (0, 0, 1),
) -> list[Instance]:
    """Slices whose middle pixels lie on a line through the origin along `way`."""
    x_axis, y_axis = np.array(orientation[:3]), np.array(orientation[3:])
    corner = -(size[1] - 1) / 2 * spacing[1] * x_axis - (size[0] - 1) / 2 * spacing[0] * y_axis
    return [
        Instance(
            path=Path("none"),
            sha256=str(k),
            media="dicom",
            rows=size[0],
            columns=size[1],
            sop_instance_uid=f"2.25.{k + 1}",
            series_uid="2.25.9",
            modality="CT",
            pixel_spacing=spacing,
            orientation=orientation,
            position=tuple(corner + (k - (count - 1) / 2) * step * np.array(way)),  # type: ignore[arg-type]
            slice_thickness=step,
            instance_number=k + 1,
        )
        for k in range(count)
    ]


def scanned(stack: Stack, scene: Scene, noise: float = 20.0) -> list[np.ndarray]:
    """PS3.3 equation C.7.6.2.1-1 for every pixel, the scene's value there, and the same noise each time."""
    rng = np.random.default_rng(7)
    images = []
    for slice_ in stack.instances:
        column, row = np.meshgrid(np.arange(slice_.columns), np.arange(slice_.rows))
        x_axis, y_axis = np.array(slice_.orientation[:3]), np.array(slice_.orientation[3:])  # type: ignore[index]
        rows, columns = slice_.pixel_spacing  # type: ignore[misc]
        x, y, z = (
            slice_.position[a] + column * columns * x_axis[a] + row * rows * y_axis[a]  # type: ignore[index]
            for a in range(3)
        )
        images.append((scene((x, y, z)) + rng.normal(0, noise, column.shape)).astype(np.float32))
    return images


def ball(points: Points, center: Sequence[float], radius: float) -> np.ndarray:
    """Share of each place inside a ball with an edge 1 mm wide."""
    away = np.sqrt(sum((p - c) ** 2 for p, c in zip(points, center, strict=True)))
    return np.clip(0.5 - (away - radius), 0, 1)


def chest(
    *nodules: tuple[Sequence[float], float, float], tubes: Sequence[tuple[Sequence[float], Sequence[float], float]] = ()
) -> Scene:
    """A body with two ellipsoid lungs, 42 x 65 x 70 mm half axes; nodules (centre, radius, HU); tubes (point, way, radius)."""

    def scene(points: Points) -> np.ndarray:
        x, y, z = points
        value = np.where((x / 125) ** 2 + (y / 90) ** 2 < 1, 40.0, -1000.0)
        for side in (-58, 58):
            value[((x - side) / 42) ** 2 + (y / 65) ** 2 + (z / 70) ** 2 < 1] = -860
        for start, way, radius in tubes:
            unit = np.array(way) / np.linalg.norm(way)
            offset = np.stack([p - s for p, s in zip(points, start, strict=True)])
            across = np.linalg.norm(offset - np.tensordot(unit, offset, 1) * unit[:, None, None], axis=0)
            value = np.maximum(value, -860 + 900 * np.clip(0.5 - (across - radius), 0, 1) * (value > -900))
        for center, radius, hounsfield in nodules:
            share = ball(points, center, radius)
            value = np.maximum(value, value + share * (hounsfield - value))
        return value

    return scene


def searched(scene: Scene, slices: Sequence[Instance] | None = None, **options: float) -> Search:
    stack = arrange(instances() if slices is None else slices)
    return candidates.find(scanned(stack, scene), stack, **options)  # type: ignore[arg-type]


def away(search: Search, center: Sequence[float], number: int = 0) -> float:
    return float(np.linalg.norm(np.subtract(search.regions[number].center_mm, center)))


@pytest.mark.parametrize("diameter", [5.0, 9.0, 24.0])
def test_a_ball_in_the_lung_is_the_one_candidate(diameter: float) -> None:
    center = (-60.0, 8.0, 5.0)
    search = searched(chest((center, diameter / 2, 40)))
    assert len(search.regions) == 1 and search.reason == ""
    region = search.regions[0]
    assert (region.id, region.origin) == ("candidate-1", "candidate")
    assert away(search, center) < 2
    assert region.diameter_mm == pytest.approx(diameter, rel=0.25, abs=1)
    assert region.score is not None and candidates.LEAST_SCORE <= region.score <= 1


def test_lung_volume_by_the_formula_of_the_ellipsoid() -> None:
    """Two ellipsoids, cut at z = -50 and z = 50 mm by the scan's ends (half a slice either way)."""
    c, h = 70, 49
    expected = 2 * np.pi * 42 * 65 * (2 * h - 2 * h**3 / (3 * c**2)) / 1000
    assert searched(chest()).lung_ml == pytest.approx(expected, rel=0.1)


def test_ground_glass_is_found() -> None:
    center = (55.0, -10.0, -8.0)
    search = searched(chest((center, 7, -560)))
    assert away(search, center) < 2


def test_a_nodule_on_the_pleura_is_found() -> None:
    """Half of it is in the wall."""
    center = (-58.0, -63.0, 0.0)
    search = searched(chest((center, 6, 40)))
    assert len(search.regions) == 1
    assert away(search, center) < 4


def test_a_nodule_on_a_vessel_is_found() -> None:
    center = (-60.0, 8.0, 5.0)
    search = searched(chest((center, 5, 40), tubes=[((-60, 8, 5), (1, 0.4, 0.3), 1.5)]))
    assert away(search, center) < 2.5


@pytest.mark.parametrize("radius", [1.5, 3.0])
@pytest.mark.parametrize("way", [(1.0, 0.3, 0.2), (0.1, 0.2, 1.0), (0.5, 0.5, 0.7)])
def test_vessels_are_no_candidates(radius: float, way: Sequence[float]) -> None:
    search = searched(chest(tubes=[((-60, 5, 0), way, radius), ((58, -10, 10), way, radius)]))
    assert search.regions == ()
    assert search.lung_ml > 500
    assert "looks like a nodule" in search.reason


def test_best_first_and_no_more_than_asked_for() -> None:
    nodules = [((-60.0, 8.0, 5.0), 5.0, 40.0), ((60.0, 20.0, -20.0), 3.0, -300.0), ((50.0, -30.0, 15.0), 7.0, 40.0)]
    search = searched(chest(*nodules))
    scores = [region.score for region in search.regions]
    assert [region.id for region in search.regions] == ["candidate-1", "candidate-2", "candidate-3"]
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]
    assert searched(chest(*nodules), most=2).regions == search.regions[:2]
    assert searched(chest(*nodules), least_score=0.99999).regions == ()


def tilted(degrees: float) -> tuple[float, ...]:
    angle = np.radians(degrees)
    return (1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(np.sin(angle)))


@pytest.mark.parametrize(
    "slices",
    [
        instances(step=1.25, count=80, size=(240, 180), spacing=(0.9, 1.6)),
        instances(step=5.0, count=20),
        instances(step=0.6, count=160, size=(100, 140), spacing=(2.0, 2.0)),
        instances(orientation=tilted(20), way=(0, 0, 1)),
        instances(orientation=tilted(20), way=(0, -np.sin(np.radians(20)), np.cos(np.radians(20)))),
        instances(orientation=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0)),
        instances(orientation=(0.0, 1.0, 0.0, 1.0, 0.0, 0.0), size=(200, 150)),
    ],
    ids=["anisotropic", "thick", "thin", "gantry tilt", "tilted patient", "rows upward", "turned"],
)
def test_the_place_is_right_in_any_geometry(slices: list[Instance]) -> None:
    center = (-60.0, 12.0, 6.0)
    search = searched(chest((center, 6, 40)), slices)
    assert away(search, center) < 2


def test_order_of_arrival_does_not_matter() -> None:
    scene = chest(((-60.0, 8.0, 5.0), 5, 40), ((55.0, -20.0, -10.0), 4, 40))
    assert searched(scene, instances()[::-1]) == searched(scene)


def test_slices_may_be_read_by_number() -> None:
    stack = arrange(instances())
    images = scanned(stack, chest(((-60.0, 8.0, 5.0), 5, 40)))
    search = candidates.find(images.__getitem__, stack)
    assert search.regions and search == candidates.find(iter(images), stack)


def test_what_the_scan_cuts_is_left_out() -> None:
    assert searched(chest(((-60.0, 8.0, 50.0), 6, 40))).regions == ()


def test_a_place_in_a_gap_is_left_out() -> None:
    """The slices around the nodule did not arrive: what is interpolated there is no finding."""
    gone = [slice_ for slice_ in instances() if abs(slice_.position[2] - 5) > 6]  # type: ignore[index]
    assert searched(chest(((-60.0, 8.0, 5.0), 9, 40)), gone).regions == ()


def head(points: Points) -> np.ndarray:
    x, y, z = points
    away = (x / 75) ** 2 + (y / 95) ** 2 + (z / 300) ** 2
    value = np.select([away < 0.85, away < 1], [35.0, 900.0], -1000.0)
    value[ball(points, (0, -60, -20), 22) > 0.5] = -1000  # a sinus
    return value


def abdomen(points: Points) -> np.ndarray:
    """Gas in the bowel, more than a lung's worth."""
    x, y, _ = points
    value = np.where((x / 125) ** 2 + (y / 90) ** 2 < 1, 40.0, -1000.0)
    for side in (-50, 50):
        value[(x - side) ** 2 + y**2 < 35**2] = -1000
    return value


def nothing(points: Points) -> np.ndarray:
    return np.full(points[0].shape, -1000.0)


def water(points: Points) -> np.ndarray:
    return np.zeros(points[0].shape)


@pytest.mark.parametrize("scene", [head, abdomen, nothing, water])
def test_without_lungs_nothing_is_searched(scene: Scene) -> None:
    search = searched(scene)
    assert search.regions == ()
    assert "no lung field" in search.reason and "250 ml" in search.reason


def test_noise_is_no_chest() -> None:
    stack = arrange(instances(count=30))
    assert candidates.find(scanned(stack, water, noise=400), stack).regions == ()


@pytest.mark.parametrize("value", [np.nan, -1e30])
def test_numbers_that_are_none_do_no_harm(value: float) -> None:
    stack = arrange(instances())
    images = scanned(stack, chest(((-60.0, 8.0, 5.0), 6, 40)))
    for image in images:
        image[:3] = value
    search = candidates.find(images, stack)
    assert away(search, (-60, 8, 5)) < 2
    assert candidates.find([np.full_like(image, value) for image in images], stack).regions == ()


def test_one_slice_is_not_searched() -> None:
    stack = arrange(instances(count=1))
    search = candidates.find(iter(()), stack)
    assert search.regions == () and "one slice" in search.reason


@pytest.mark.parametrize(("count", "size"), [(2, (8, 8)), (5, (150, 200)), (3, (1, 1))])
def test_tiny_series_give_a_reason(count: int, size: tuple[int, int]) -> None:
    search = searched(chest(), instances(count=count, size=size))
    assert search.regions == () and search.reason


def test_the_grid_leads_back_to_the_place_it_shows() -> None:
    """A value that grows evenly in space is the same at a voxel and at the place that the voxel is said to be."""
    slices = instances(
        count=12, step=3.0, size=(40, 50), spacing=(1.5, 1.1), orientation=tilted(15), way=(0.0, 0.2, 0.98)
    )
    stack = arrange(slices)
    grid = read(scanned(stack, lambda p: 3 * p[0] - 2 * p[1] + 5 * p[2], noise=0), stack)
    rng = np.random.default_rng(0)
    for at in rng.integers(2, np.array(grid.hounsfield.shape) - 2, (50, 3)):
        x, y, z = grid.to_mm(tuple(at.tolist()))
        assert grid.hounsfield[tuple(at)] == pytest.approx(3 * x - 2 * y + 5 * z, abs=2.0)


def test_fewer_slices_than_stated_are_refused() -> None:
    stack = arrange(instances(count=10))
    with pytest.raises(ValueError, match="fewer slices"):
        candidates.find(scanned(stack, water)[:-1], stack)


def test_the_known_cancer_of_the_real_ct_comes_first(data: Path, sandbox: Sandbox) -> None:
    """Right apex, read off the images: slice 63 (z = 57.5 mm), column 182, row 284, about 26 mm across."""
    stack = arrange(sandbox.inspect(sandbox.expand(data / "dicom/ct_lungfcp_0001.zip")))
    search = candidates.find((sandbox.hounsfield(slice_) for slice_ in stack.instances), stack)
    assert away(search, (-189.12 + 182 * 0.75977, -364.12 + 284 * 0.75977, 57.5)) < 8
    assert len(search.regions) <= candidates.MOST
    assert 1000 < search.lung_ml < 1600
