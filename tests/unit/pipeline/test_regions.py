"""Which nodules: those that other systems' objects mark, or the built-in search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.errors import Busy, InputError, OutOfContract
from service.intake.references import Reference, References
from service.phantoms import write_ct
from service.pipeline import regions
from service.pipeline.analysis import Pipeline
from service.records import Instance, Request

WriteSeries = Callable[..., list[Path]]
IMAGE = Instance(
    Path(),
    "0" * 64,
    "dicom",
    8,
    8,
    "1.1",
    series_uid="1.5",
    study_uid="1.4",
    frame_of_reference_uid="1.6",
    modality="CT",
)


def mark(uid: str, modality: str = "SR", **more: Any) -> Instance:
    return Instance(Path(), uid, "dicom", 0, 0, uid, study_uid="1.4", modality=modality, **more)


def named(answers: dict[str, Any]) -> tuple[tuple[Any, ...], list[str]]:
    def references(instance: Instance) -> References:
        answer = answers[instance.sop_instance_uid]
        if isinstance(answer, Exception):
            raise answer
        return answer

    sandbox: Any = SimpleNamespace(references=references)
    return regions.named(sandbox, [mark(uid) for uid in answers], [IMAGE])


def found(*places: Reference, own: bool = False, skipped: tuple[str, ...] = ()) -> References:
    return References(own=own, places=places, segments=(), skipped=skipped)


def test_places_in_these_images_become_regions_in_a_fixed_order() -> None:
    got, notes = named(
        {
            "2.2": found(Reference("b", center_mm=(1, 2, 3), series_uid="1.5", diameter_mm=7.5, tracking_uid="2.9")),
            "2.1": found(Reference("a", sop_instance_uid="1.1", center_px=(4.0, 5.0)), skipped=("an organ",)),
        }
    )
    assert [(r.id, r.origin, r.source_uid, r.center_mm, r.center_px) for r in got] == [
        ("sr-1", "reference", "2.1", None, (4.0, 5.0)),
        ("sr-2", "reference", "2.2", (1, 2, 3), None),
    ]
    assert (got[1].diameter_mm, got[1].tracking_uid) == (7.5, "2.9")
    assert len(notes) == 1 and "an organ" in notes[0]


@pytest.mark.parametrize(
    ("where", "taken"),
    [
        ({"series_uid": "1.5"}, True),
        ({"series_uid": "1.7"}, False),
        ({"sop_instance_uids": ("1.1", "9.9")}, True),
        ({"sop_instance_uids": ("9.9",), "series_uid": "1.5"}, False),
        ({"frame_of_reference_uid": "1.6"}, True),
        ({"frame_of_reference_uid": "1.8"}, False),
        ({}, False),
    ],
)
def test_places_in_other_images_are_left_alone(where: dict[str, Any], taken: bool) -> None:
    got, _ = named({"2.1": found(Reference("a", center_mm=(1, 2, 3), **where))})
    assert len(got) == taken


def test_one_lesion_marked_twice_is_one_region() -> None:
    place = Reference("a", center_mm=(1, 2, 3), series_uid="1.5", tracking_uid="2.9")
    moved = Reference("b", center_mm=(1.2, 2, 3), series_uid="1.5", tracking_uid="2.9")
    other = Reference("c", center_mm=(1, 2, 3), series_uid="1.5", tracking_uid="2.8")
    assert len(named({"2.1": found(place), "2.2": found(moved, other)})[0]) == 1


def test_what_cannot_be_read_is_said_and_does_not_stop_the_answer() -> None:
    good = found(Reference("a", center_mm=(1, 2, 3), series_uid="1.5"))
    got, notes = named({"2.1": InputError("it is damaged"), "2.2": good})
    assert len(got) == 1 and "2.1" in notes[0] and "damaged" in notes[0]


def test_busy_decoders_do_not_cost_a_mark() -> None:
    with pytest.raises(Busy):
        named({"2.1": Busy("all decoders are at work")})


def test_results_of_ours_are_no_marks_and_no_images(pipeline: Pipeline, write_series: WriteSeries) -> None:
    assert named({"2.1": found(Reference("a", center_mm=(1, 2, 3), series_uid="1.5"), own=True)})[0] == ()
    ours = mark("2.1", attributes={"0018A001": {"vr": "SQ", "Value": []}})
    assert regions.names_places(mark("2.1")) and not regions.names_places(ours)
    images = pipeline.tools.sandbox.inspect(write_series())
    assert pipeline.work([*images, ours], Request()).instances == tuple(images)
    with pytest.raises(OutOfContract, match="results of this software"):
        pipeline.work([ours], Request())


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("phantom")
    nodules = write_ct(folder)["nodules"]
    return sorted(folder.glob("*.dcm")), nodules


def test_a_plainly_sent_chest_is_searched_and_answered(
    pipeline: Pipeline, phantom: tuple[list[Path], list[dict[str, Any]]]
) -> None:
    files, nodules = phantom
    with pipeline.prepare(files, Request(maps=())) as work:
        outcome = pipeline.run(work)
    assert outcome.outcome in ("positive", "negative") and "candidate" in outcome.warnings[0]
    for finding in outcome.findings:
        assert finding.body["location"]["origin"] == "candidate" and finding.region is not None
    centres = np.array([finding.body["location"]["center_mm"] for finding in outcome.findings])
    for nodule in nodules:
        assert np.linalg.norm(centres - nodule["center_mm"], axis=1).min() < 4, nodule


def test_the_search_can_be_turned_off(pipeline: Pipeline, phantom: tuple[list[Path], Any]) -> None:
    quiet = Pipeline(replace(pipeline.tools, candidates=False))
    with quiet.prepare(phantom[0], Request()) as work:
        outcome = quiet.run(work)
    assert outcome.outcome == "no_region" and "nothing was classified" in outcome.warnings[0]
