"""The lung stage with a network a person can check: p(malignant) = 1 / (1 + exp(4 - 8 m)), m the mean of the scaled window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

from models import preprocessing
from service import uids
from service.errors import InputError, OutOfContract
from service.pipeline import lung, nodule
from service.pipeline.analysis import Pipeline
from service.pipeline.request import InvalidRequest, parse
from service.records import Outcome, Region, Request

WriteSeries = Callable[..., list[Path]]
X, Y = -50.0 + 70 * 0.75, -40.0 + 60 * 0.75
"""Patient coordinates of the disk of `write_series`: column 70, row 60."""


def run(pipeline: Pipeline, files: list[Path], **request: Any) -> Outcome:
    with pipeline.prepare(files, parse(request)) as work:
        return pipeline.run(work)


def refused(pipeline: Pipeline, files: list[Path], kind: type[InputError], **request: Any) -> InputError:
    with pytest.raises(kind) as caught, pipeline.prepare(files, parse(request)):
        pass
    return caught.value


def answer(hounsfield: np.ndarray, center: tuple[float, float], spacing: float = 0.75) -> float:
    """The network's answer for one slice."""
    window = preprocessing.nodule_window(hounsfield, center, (spacing, spacing), size_px=96, scale_mm=0.5)
    return float(1 / (1 + np.exp(4 - 8 * window.astype(np.float64).mean())))


def hounsfield(path: Path) -> np.ndarray:
    return np.asarray(pydicom.dcmread(path).pixel_array.astype(float) - 1024)


def expected(path: Path, spacing: float = 0.75) -> float:
    """The network's answer for the disk of one slice, from the file by other means."""
    return answer(hounsfield(path), (70, 60), spacing)


def repaint(files: list[Path], where: tuple[slice, slice], value: float) -> None:
    """Set pixels of every slice, HU."""
    for file in files:
        ds = pydicom.dcmread(file)
        pixels = ds.pixel_array.copy()
        pixels[where] = value + 1024
        ds.PixelData = pixels.astype("<i2").tobytes()
        pydicom.dcmwrite(file, ds)


def found(outcome: Outcome, check: str) -> list[tuple[str, Any]]:
    """Result and value of the checks of a kind."""
    return [(c["result"], c["value"]) for c in outcome.input["checks"] if c["id"] == check]


def test_the_slices_round_the_centre_are_averaged(pipeline: Pipeline, write_series: WriteSeries) -> None:
    """Centre on the slice at z = 105 (number 5 of 8, 1.25 mm apart), 2.5 mm to each side: slices 3 to 7."""
    files = write_series()
    outcome = run(pipeline, files[::-1], regions=[{"id": "n1", "center_mm": [X, Y, 105.0]}])
    (finding,) = outcome.findings
    assert [s["sop_instance_uid"] for s in finding.body["slices"]] == [f"1.2.4.{n}" for n in range(3, 8)]
    hand = [expected(files[n]) for n in range(2, 7)]
    assert np.allclose([s["probabilities"]["malignant"] for s in finding.body["slices"]], hand, atol=1e-5)
    assert finding.body["probabilities"]["malignant"] == pytest.approx(np.mean(hand), abs=1e-5)
    assert outcome.input["instances"] == [f"1.2.4.{n}" for n in range(1, 9)]
    assert (outcome.input["study"], outcome.input["series"], outcome.input["modality"]) == ("1.2.3", "1.2.4", "CT")


def test_the_finding_says_where_it_is(pipeline: Pipeline, write_series: WriteSeries) -> None:
    (finding,) = run(pipeline, write_series(), regions=[{"center_mm": [X, Y, 105.2]}]).findings
    location = finding.body["location"]
    assert location["sop_instance_uid"] == "1.2.4.5"
    assert location["center_mm"] == pytest.approx([X, Y, 105.0])
    half = 0.5 * 96 * 0.5 / 0.75  # 24 mm in pixels
    assert location["box_px"] == pytest.approx([70.5 - half, 60.5 - half, 70.5 + half, 60.5 + half])
    assert location["diameter_mm"] is None


def test_a_pixel_and_its_millimetres_are_the_same_place(pipeline: Pipeline, write_series: WriteSeries) -> None:
    files = write_series()
    by_mm = run(pipeline, files, regions=[{"id": "a", "center_mm": [X, Y, 103.75]}]).findings[0]
    by_px = run(pipeline, files, regions=[{"id": "a", "sop_instance_uid": "1.2.4.4", "center_px": [70, 60]}]).findings[
        0
    ]
    assert by_mm.body == by_px.body


def test_tracking_uids_depend_on_the_place_and_not_on_the_run(pipeline: Pipeline, write_series: WriteSeries) -> None:
    files = write_series()
    regions = [{"id": "a", "center_mm": [X, Y, 105.0]}, {"id": "b", "center_mm": [X + 3, Y, 105.0]}]
    first, second = (run(pipeline, files, regions=regions) for _ in range(2))
    one, two = (finding.body["tracking_uid"] for finding in first.findings)
    assert one != two
    assert [finding.body["tracking_uid"] for finding in second.findings] == [one, two]
    sources = [f"1.2.4.{n}" for n in range(3, 8)]
    assert one == uids.tracking(sources, pipeline.bundles["sisc_lung"].sha256, f"{X:.1f},{Y:.1f},105.0")


def test_the_maps_are_the_networks_response_on_the_windows(pipeline: Pipeline, write_series: WriteSeries) -> None:
    """The malignant response is 4 x - 2: 2 on the disk, whose pixels are the brightest of the window."""
    (finding,) = run(pipeline, write_series(), regions=[{"id": "n", "center_mm": [X, Y, 105.0]}]).findings
    maps = finding.maps
    assert maps is not None
    assert maps.response.shape == (5, 2, 96, 96) and maps.background.shape[0] == 5
    assert maps.response[:, 1, 48, 48] == pytest.approx(2.0, abs=1e-5)
    assert np.allclose(maps.response[:, 0], -maps.response[:, 1], atol=1e-5)
    evidence = finding.body["evidence"]
    assert evidence["scale"] == {"per_image": pytest.approx(2.0, abs=1e-5), "per_model": 1.5}
    assert set(evidence["maps"]) == {"clear", "two-sided", "class-benign", "class-malignant"}
    assert evidence["peak_sop_instance_uid"] == maps.sources[evidence["peak_slice"]]
    assert sum(evidence["dominant_class_share"].values()) == pytest.approx(1)


def test_the_background_is_the_lung_window(pipeline: Pipeline, write_series: WriteSeries) -> None:
    """-850 HU lies a third up the window of -1350..150 HU; the disk of slice 5 is 60 HU."""
    (finding,) = run(pipeline, write_series(), regions=[{"center_mm": [X, Y, 105.0]}]).findings
    assert finding.maps is not None
    picture = finding.maps.background[2]
    middle = picture.shape[0] // 2
    assert picture[0, 0] == round(500 / 1500 * 255)
    assert picture[middle, middle] == round((60 + 1350) / 1500 * 255)


def test_the_decision_is_that_of_the_operating_point_asked_for(pipeline: Pipeline, write_series: WriteSeries) -> None:
    """The window is mostly air, so p(malignant) lies between the two thresholds 0.05 and 0.5."""
    files, regions = write_series(), [{"center_mm": [X, Y, 105.0]}]
    default = run(pipeline, files, regions=regions)
    sensitive = run(pipeline, files, regions=regions, operating_point="sensitivity_90")
    p = default.findings[0].body["probabilities"]["malignant"]
    assert 0.02 < p < 0.5
    point = default.findings[0].body["operating_point"]
    assert (default.outcome, point["name"], point["threshold"], point["decision"], point["n"]) == (
        "negative",
        "balanced",
        0.5,
        "negative",
        10,
    )
    assert point["score"] == pytest.approx(p)
    threshold = 0.05
    assert (
        sensitive.findings[0].body["operating_point"]["decision"]
        == ("positive" if p >= threshold else "negative")
        == ("positive" if sensitive.outcome == "positive" else "negative")
    )


def test_without_maps_the_network_is_not_asked_for_them(
    pipeline: Pipeline, write_series: WriteSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    real = pipeline.tools.engine.run

    def watched(bundle: Any, batch: Any, outputs: list[str]) -> Any:
        asked.append(outputs)
        return real(bundle, batch, outputs)

    monkeypatch.setattr(pipeline.tools.engine, "run", watched)
    (finding,) = run(pipeline, write_series(), regions=[{"center_mm": [X, Y, 105.0]}], maps=[]).findings
    assert asked == [["probabilities", "features"]]
    assert finding.maps is None and finding.body["evidence"]["maps"] == {}


def test_no_region_is_an_outcome_and_says_what_to_send(pipeline: Pipeline, write_series: WriteSeries) -> None:
    outcome = run(pipeline, write_series())
    assert (outcome.outcome, outcome.findings) == ("no_region", ())
    assert "name each nodule" in outcome.warnings[0] and "25 mm" in outcome.warnings[0], "too few slices to be searched"
    assert outcome.quality["gradable"] and outcome.quality["code"]["value"] == "111237"


def test_a_series_the_model_was_not_made_for_is_out_of_scope(pipeline: Pipeline, write_series: WriteSeries) -> None:
    outcome = run(pipeline, write_series(thickness=20.0, step=20.0), regions=[{"center_mm": [X, Y, 100.0]}])
    assert (outcome.outcome, outcome.findings) == ("out_of_scope", ())
    (bad,) = [c for c in outcome.input["checks"] if c["result"] == "fail"]
    assert (bad["id"], bad["value"], bad["limit"]) == ("slice_thickness_mm", 20.0, [0.6, 5.0])
    assert not outcome.quality["gradable"] and outcome.quality["code"]["value"] == "111235"
    assert "20 mm" in outcome.warnings[0]


def test_a_series_at_the_edge_is_answered_with_a_remark(pipeline: Pipeline, write_series: WriteSeries) -> None:
    outcome = run(pipeline, write_series(thickness=6.0, step=6.0), regions=[{"center_mm": [X, Y, 106.0]}])
    assert len(outcome.findings) == 1
    assert outcome.quality["gradable"] and outcome.quality["code"]["value"] == "111236"
    assert [r["code"] for r in outcome.quality["reasons"]] == ["slice_thickness_mm"]
    assert 0 < outcome.quality["score"] < 1


def test_a_place_without_anything_to_see_is_not_classified(pipeline: Pipeline, write_series: WriteSeries) -> None:
    files = write_series(spacing=0.5)
    for file in files:
        ds = pydicom.dcmread(file)
        pixels = ds.pixel_array.copy()
        pixels[:, :] = 174
        pixels[60:70, 110:120] = 1100  # far from the flat place, near the other
        ds.PixelData = pixels.astype("<i2").tobytes()
        pydicom.dcmwrite(file, ds)
    flat, good = (
        {"id": name, "sop_instance_uid": "1.2.4.5", "center_px": px}
        for name, px in (("flat", [48, 60]), ("good", [112, 64]))
    )
    both = run(pipeline, files, regions=[flat, good])
    assert [f.id for f in both.findings] == ["good"]
    assert any("region flat was not classified" in w for w in both.warnings)
    assert both.quality["gradable"]
    assert next(c["message"] for c in both.input["checks"] if c["result"] == "fail").startswith("region flat")
    alone = run(pipeline, files, regions=[flat])
    assert (alone.outcome, alone.findings) == ("out_of_scope", ())


# -- places at the limits of what can be seen ------------------------------------------------------------------------------


def test_a_window_that_reaches_beyond_the_image(pipeline: Pipeline, write_series: WriteSeries) -> None:
    """Column 8: the window is 64 px wide, 23.5 of them lie outside; there the image's border goes on."""
    files = write_series()
    repaint(files, (slice(57, 64), slice(4, 13)), 30)
    repaint(files, (slice(70, 76), slice(0, 9)), -300)
    outcome = run(pipeline, files, regions=[{"id": "n", "sop_instance_uid": "1.2.4.5", "center_px": [8, 60]}])
    (finding,) = outcome.findings
    hand = [answer(np.pad(hounsfield(files[n]), ((0, 0), (40, 0)), mode="edge"), (48, 60)) for n in range(2, 7)]
    assert finding.body["probabilities"]["malignant"] == pytest.approx(np.mean(hand), abs=1e-5)
    assert found(outcome, "window_border") == [("warn", round(23.5 / 64, 4))]
    assert found(outcome, "nodule_border") == [("pass", 6.38)]
    assert [r["code"] for r in outcome.quality["reasons"]] == ["window_border"]


def test_a_nodule_at_the_border_is_not_classified_and_the_others_are(
    pipeline: Pipeline, write_series: WriteSeries
) -> None:
    edge = {"id": "edge", "sop_instance_uid": "1.2.4.5", "center_px": [5, 60]}
    corner = {"id": "corner", "sop_instance_uid": "1.2.4.5", "center_px": [139, 119]}
    good = {"id": "good", "center_mm": [X, Y, 105.0]}
    both = run(pipeline, write_series(), regions=[edge, good, corner])
    assert [f.id for f in both.findings] == ["good"] and both.quality["gradable"]
    assert found(both, "nodule_border") == [("pass", 44.62), ("fail", 4.12), ("fail", 0.38)]
    assert found(both, "window_border")[2][0] == "fail", "three quarters of the corner's window"
    assert any("region edge was not classified: region edge: the image ends 4.1 mm" in w for w in both.warnings)
    alone = run(pipeline, write_series(), regions=[edge])
    assert (alone.outcome, alone.findings) == ("out_of_scope", ())


@pytest.mark.parametrize(("z", "slices"), [(100.0, [1, 2, 3]), (108.75, [6, 7, 8])])
def test_the_first_and_the_last_slice_are_answered_from_what_there_is(
    pipeline: Pipeline, write_series: WriteSeries, z: float, slices: list[int]
) -> None:
    """2.5 mm to each side are answered from; on one there is half a slice of 1.25 mm only."""
    files = write_series()
    outcome = run(pipeline, files, regions=[{"center_mm": [X, Y, z]}])
    (finding,) = outcome.findings
    assert [s["sop_instance_uid"] for s in finding.body["slices"]] == [f"1.2.4.{n}" for n in slices]
    hand = np.mean([expected(files[n - 1]) for n in slices])
    assert finding.body["probabilities"]["malignant"] == pytest.approx(hand, abs=1e-5)
    assert found(outcome, "window_depth") == [("warn", 0.62)]


def marked(*diameters: float | None, origin: Any = "reference") -> Request:
    """Marks of these diameters, on the disk."""
    return Request(
        regions=tuple(
            Region(f"n{k}", center_mm=(X, Y, 105.0 - 0.3 * k), origin=origin, diameter_mm=mm)
            for k, mm in enumerate(diameters, 1)
        )
    )


def test_nodules_of_other_sizes_are_not_classified(pipeline: Pipeline, write_series: WriteSeries) -> None:
    files = write_series()
    with pipeline.prepare(files, marked(2.0, 3.0, None, 30.0, 41.5)) as work:
        outcome = pipeline.run(work)
    assert [f.id for f in outcome.findings] == ["n2", "n3", "n4"]
    assert found(outcome, "nodule_diameter_mm") == [("pass", 3.0), ("pass", 30.0), ("fail", 2.0), ("fail", 41.5)]
    failed = [c for c in outcome.input["checks"] if c["result"] == "fail"]
    assert [c["limit"] for c in failed] == [[3.0, 30.0]] * 2
    assert failed[1]["message"].startswith("region n5: a diameter of 41.5 mm")
    assert sum("was not classified" in w for w in outcome.warnings) == 2
    with pipeline.prepare(files, marked(41.5)) as work:
        assert pipeline.run(work).outcome == "out_of_scope"


def test_a_candidate_that_is_too_large_is_not_classified(
    pipeline: Pipeline, write_series: WriteSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = marked(35.0, 8.0, origin="candidate").regions
    monkeypatch.setattr(lung, "_candidates", lambda case, stack: (large, "two candidates"))
    outcome = run(pipeline, write_series())
    assert [f.id for f in outcome.findings] == ["n2"]
    assert any("n1 was not classified" in w and "35.0 mm" in w for w in outcome.warnings)


def test_nodules_in_one_window_name_each_other(pipeline: Pipeline, write_series: WriteSeries) -> None:
    """b lies 6 mm beside a; c 4 mm above both, further than the slices that they are answered from."""
    regions = [
        {"id": "a", "center_mm": [X, Y, 103.75]},
        {"id": "b", "center_mm": [X + 6, Y, 103.75]},
        {"id": "c", "center_mm": [X, Y, 107.5]},
    ]
    outcome = run(pipeline, write_series(), regions=regions)
    assert [f.id for f in outcome.findings] == ["a", "b", "c"]
    assert found(outcome, "window_neighbours") == [
        ("warn", [{"id": "b", "distance_mm": 6.0}]),
        ("warn", [{"id": "a", "distance_mm": 6.0}]),
        ("pass", []),
    ]
    told = [w for w in outcome.warnings if "the window also holds" in w]
    assert [w.split(":")[0] for w in told] == ["region a", "region b"] and "b (6 mm away)" in told[0]
    assert found(run(pipeline, write_series(), regions=regions[:1]), "window_neighbours") == []


@pytest.mark.parametrize("value", [-2000, -3024])
def test_padding_is_filled_as_if_the_image_ended_there(
    pipeline: Pipeline, write_series: WriteSeries, value: float
) -> None:
    """Column 90 lies 12.5 of 64 px inside the window."""
    files = write_series()
    repaint(files, (slice(None), slice(90, None)), value)
    outcome = run(pipeline, files, regions=[{"center_mm": [X, Y, 105.0]}])
    hand = [answer(hounsfield(files[n])[:, :90], (70, 60)) for n in range(2, 7)]
    assert outcome.findings[0].body["probabilities"]["malignant"] == pytest.approx(np.mean(hand), abs=1e-5)
    assert abs(np.mean([expected(files[n]) for n in range(2, 7)]) - np.mean(hand)) > 0.1, "it would be taken in"
    ((result, share),) = found(outcome, "window_padding")
    assert result == "warn" and share == pytest.approx(12.5 / 64, abs=0.01)


def test_metal_does_not_squeeze_the_rest(pipeline: Pipeline, write_series: WriteSeries) -> None:
    """A clip of 3 mm in lung: what the network sees is the lung, and the reader is told."""
    files, regions = write_series(), [{"center_mm": [X, Y, 105.0]}]
    before = run(pipeline, files, regions=regions)
    repaint(files, (slice(58, 62), slice(90, 94)), 8000)
    after = run(pipeline, files, regions=regions)
    p = [one.findings[0].body["probabilities"]["malignant"] for one in (before, after)]
    assert p[0] == pytest.approx(p[1], abs=1e-6)
    assert abs(np.mean([expected(files[n]) for n in range(2, 7)]) - p[0]) > 0.01, "it would be taken in"
    assert found(before, "window_metal") == [("pass", 0.0)]
    assert found(after, "window_metal")[0][0] == "warn"
    repaint(files, (slice(48, 72), slice(58, 82)), 8000)
    assert run(pipeline, files, regions=regions).outcome == "out_of_scope", "metal where the nodule should be"


def test_a_model_that_names_no_range_takes_every_value(pipeline: Pipeline) -> None:
    bundle = pipeline.bundles["sisc_lung"]
    assert nodule.hu_range(bundle) == (-1024, 2500)
    described = bundle.description["input"]
    plain = {**described, "preprocessing": described["preprocessing"][1:]}
    assert nodule.hu_range(replace(bundle, description={**bundle.description, "input": plain})) == (-np.inf, np.inf)


def test_grey_levels_of_a_square_of_the_scanner(pipeline: Pipeline, write_series: WriteSeries) -> None:
    bundle = pipeline.bundles["sisc_lung"]
    step = {"step": "nodule_window", "parameters": {"size_px": 96, "scale_mm": 0.5, "range_px": 110}}
    described = {**bundle.description["input"], "preprocessing": [step]}
    ranged = replace(bundle, description={**bundle.description, "input": described})
    image = hounsfield(write_series()[4])
    image[8, 20] = 1000
    box = nodule.window_box(ranged, (70, 60), (0.75, 0.75))
    window = nodule.window(ranged, image, box, hounsfield=True)
    assert window.max() == pytest.approx((60 + 850) / 1850, abs=1e-6), "the disk is 60 HU; 0 and 1 are -850 and 1000"
    assert nodule.window(bundle, image, box, hounsfield=True).max() == 1


@pytest.mark.parametrize(
    "region",
    [
        {"center_mm": [99999, 0, 0]},
        {"center_mm": [X, Y, 90.0]},
        {"sop_instance_uid": "1.2.4.5", "center_px": [140, 0]},
        {"sop_instance_uid": "9.9", "center_px": [1, 1]},
    ],
)
def test_a_place_outside_the_volume_is_refused_at_once(
    pipeline: Pipeline, write_series: WriteSeries, region: dict[str, Any]
) -> None:
    error = refused(pipeline, write_series(), OutOfContract, regions=[{"id": "far", **region}])
    assert "region far" in error.detail


def test_of_several_series_the_one_that_holds_the_region_is_taken(
    pipeline: Pipeline, write_series: WriteSeries
) -> None:
    files = write_series() + write_series(series="1.2.5", first_z=300.0)
    by_mm = run(pipeline, files, regions=[{"center_mm": [X, Y, 303.0]}])
    assert by_mm.input["series"] == "1.2.5" and by_mm.input["instances"][0] == "1.2.5.1"
    by_px = run(pipeline, files, regions=[{"sop_instance_uid": "1.2.4.3", "center_px": [70, 60]}])
    assert by_px.input["series"] == "1.2.4"


def test_several_series_that_leave_it_open_are_refused(pipeline: Pipeline, write_series: WriteSeries) -> None:
    same = write_series() + write_series(series="1.2.5")
    assert "2 CT series" in refused(pipeline, same, OutOfContract).detail
    assert "in 2 of the 2" in refused(pipeline, same, OutOfContract, regions=[{"center_mm": [X, Y, 105.0]}]).detail
    apart = write_series() + write_series(series="1.2.5", first_z=300.0)
    assert "in none of the 2" in refused(pipeline, apart, OutOfContract, regions=[{"center_mm": [X, Y, 200.0]}]).detail
    both = [{"id": "a", "center_mm": [X, Y, 105.0]}, {"id": "b", "center_mm": [X, Y, 303.0]}]
    assert "different CT series" in refused(pipeline, apart, OutOfContract, regions=both).detail


def test_a_scout_beside_the_series_leaves_nothing_open(pipeline: Pipeline, write_series: WriteSeries) -> None:
    files, (scout,) = write_series(), write_series(count=1, series="1.2.6")
    ds = pydicom.dcmread(scout)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    pydicom.dcmwrite(scout, ds)
    with pipeline.prepare([scout, *files], parse({})) as work:
        assert {i.series_uid for i in work.instances} == {"1.2.4"} and len(work.instances) == 8
        assert work.warnings == ("2 CT series were sent; only series 1.2.4 was looked at",)


# -- grey crops -----------------------------------------------------------------------------------------------------------


def crop(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def crops(tmp_path: Path) -> list[Path]:
    """Two slices of one nodule, 8 and 16 bits."""
    row, column = np.mgrid[:104, :104]
    disk = (row - 51.5) ** 2 + (column - 51.5) ** 2 < 100
    return [
        crop(tmp_path / "1.png", np.where(disk, 200, 30).astype(np.uint8)),
        crop(tmp_path / "2.tif", np.where(disk, 40000, 9000).astype(np.uint16)),
    ]


def test_grey_crops_are_slices_of_one_nodule(pipeline: Pipeline, crops: list[Path]) -> None:
    outcome = run(pipeline, crops, model="sisc_lung", pixel_spacing_mm=0.6)
    (finding,) = outcome.findings
    for file, slice_ in zip(crops, finding.body["slices"], strict=True):
        with Image.open(file) as image:
            pixels = np.asarray(image).astype(np.float32)
        window = preprocessing.nodule_window(pixels, (51.5, 51.5), (0.6, 0.6), size_px=96, scale_mm=0.5)
        assert slice_["probabilities"]["malignant"] == pytest.approx(
            1 / (1 + np.exp(4 - 8 * window.astype(float).mean())), abs=1e-5
        )
    assert finding.body["location"]["center_mm"] is None
    assert (outcome.input["study"], outcome.input["modality"]) == ("", "")
    assert outcome.warnings == ()


def test_without_a_spacing_the_training_sets_median_is_taken_and_said(pipeline: Pipeline, crops: list[Path]) -> None:
    without, given = (
        run(pipeline, crops, model="sisc_lung"),
        run(pipeline, crops, model="sisc_lung", pixel_spacing_mm=0.7),
    )
    assert without.findings[0].body["probabilities"] == given.findings[0].body["probabilities"]
    assert any("0.7 mm" in w for w in without.warnings)


@pytest.mark.parametrize(
    ("spacing", "result", "outcome"),
    [(0.7, "pass", None), (0.45, "warn", None), (1.2, "warn", None), (1.6, "fail", "out_of_scope")],
)
def test_the_spacing_of_crops_is_checked(
    pipeline: Pipeline, crops: list[Path], spacing: float, result: str, outcome: str | None
) -> None:
    got = run(pipeline, crops, model="sisc_lung", pixel_spacing_mm=spacing)
    assert found(got, "pixel_spacing_mm") == [(result, spacing)]
    assert (got.outcome == "out_of_scope") is (outcome == "out_of_scope") is (not got.findings)


@pytest.mark.parametrize(("spacing", "result"), [(0.47, "pass"), (0.4, "warn"), (0.3, "fail")])
def test_crops_that_do_not_hold_the_window(
    pipeline: Pipeline, crops: list[Path], tmp_path: Path, spacing: float, result: str
) -> None:
    """48 mm are seen; the crop that holds least of them has 104 x 104 px."""
    larger = crop(tmp_path / "0.png", np.random.default_rng(0).integers(0, 256, (200, 180)).astype(np.uint8))
    got = run(pipeline, [larger, *crops], model="sisc_lung", pixel_spacing_mm=spacing)
    share = 1 - min(1, 104 * spacing / 48) ** 2
    assert found(got, "window_border") == [(result, pytest.approx(share, abs=1e-4))]
    assert (not got.findings) is (got.outcome == "out_of_scope") is (result == "fail")


def test_crops_keep_their_depth(pipeline: Pipeline, crops: list[Path]) -> None:
    """Of 8 bits 255 is white, whether it occurs or not; of 16 bits the crop's own extremes are all that is known."""
    eight, sixteen = (nodule.crop(pipeline.tools.sandbox, one) for one in pipeline.tools.sandbox.inspect(crops))
    assert (eight.dtype, eight.max()) == (np.uint8, 200)
    assert (sixteen.dtype, sixteen.max()) == (np.float32, 40000)


def test_too_many_crops_are_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    files = [crop(tmp_path / f"{n}.png", np.full((96, 96), n, np.uint8)) for n in range(65)]
    assert refused(pipeline, files, OutOfContract, model="sisc_lung").errors[0]["limit"] == 64


def test_small_crops_and_crops_with_regions_are_refused(
    pipeline: Pipeline, tmp_path: Path, crops: list[Path], write_series: WriteSeries
) -> None:
    small = crop(tmp_path / "small.png", np.zeros((95, 104), np.uint8))
    error = refused(pipeline, [crops[0], small], OutOfContract, model="sisc_lung")
    assert "crop 2 has 104 x 95 px" in error.detail and error.errors[0]["limit"] == [96, 96]
    refused(pipeline, crops, InvalidRequest, model="sisc_lung", regions=[{"center_mm": [0, 0, 0]}])
    refused(pipeline, write_series(), InvalidRequest, pixel_spacing_mm=0.7)
    refused(pipeline, crops + write_series(), OutOfContract, model="sisc_lung")
    assert "model's name" in refused(pipeline, crops, OutOfContract).detail
