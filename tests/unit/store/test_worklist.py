"""The worklist follows everything that happens to images and analyses, on SQLite and on PostgreSQL; rows are derived by hand."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from sqlalchemy import delete, select, text, update

from service.errors import NotFound
from service.records import Arrival, Instance, ResultObject
from service.store import database as db
from service.store import deliveries, entries
from service.store.analyses import Store
from service.store.search import tag
from service.store.worklist import Entry, Wanted, words

Make = Callable[..., Instance]

NODULES: dict[str, Any] = {
    "outcome": "positive",
    "model": {"name": "sisc_lung", "version": "1.2.3"},
    "input": {"laterality": ""},
    "quality": {"gradable": True},
    "findings": [
        {
            "id": name,
            "label": label,
            "probabilities": {"benign": 1 - score, "malignant": score},
            "operating_point": {"score": score, "decision": "positive" if score >= 0.5 else "negative"},
        }
        for name, label, score in (("n1", "Benign", 0.2), ("n2", "Malignant", 0.9), ("n3", "Malignant", 0.6))
    ],
}
EYE: dict[str, Any] = {
    "outcome": "graded",
    "model": {"name": "clear_dr", "version": "2.0.0"},
    "input": {"laterality": "L"},
    "quality": {"gradable": True},
    "findings": [
        {
            "id": "eye",
            "label": "Moderate",
            "grade": 2,
            "probabilities": {"0": 0.1, "1": 0.2, "2": 0.4, "3": 0.25, "4": 0.05},
            "operating_point": {"score": 0.7, "decision": "positive"},
        }
    ],
}


def described(instance: Instance, **values: str) -> Instance:
    """The instance with attributes by keyword."""
    attributes = {tag(keyword): {"vr": "LO", "Value": [value]} for keyword, value in values.items()}
    if "PatientName" in values:
        attributes[tag("PatientName")] = {"vr": "PN", "Value": [{"Alphabetic": values["PatientName"]}]}
    return replace(instance, attributes=attributes)


@pytest.fixture
def ct(make: Make) -> Make:
    """An instance of a study 1.<n> of a patient with a name."""

    def instance(study: int, series: str = "1", number: int = 1, modality: str = "CT", **values: str) -> Instance:
        uid = f"1.{study}.{series}.{number}"
        made = make(uid.encode(), uid, patient=f"P{study}", study=f"1.{study}")
        given = {"PatientName": f"Meier{study}^Anna", "StudyDate": "20260115", "StudyDescription": "Thorax", **values}
        return described(replace(made, series_uid=f"1.{study}.{series}", modality=modality), **given)

    return instance


def arrive(store: Store, *instances: Instance, at: str = "") -> None:
    """As a DICOM door does it."""
    store.archive.add([Arrival(one, "dimse", "CT1", "a", at) for one in instances])


def accept(store: Store, *instances: Instance, model: str = "sisc_lung", **more: Any) -> str:
    return store.accept(model=model, instances=instances, request={}, **more)


def end(store: Store, identity: str, result: Any = None, error: Any = None) -> None:
    store.begin(identity)
    assert store.complete(identity, result) if error is None else store.fail(identity, error)


def listed(store: Store, **wanted: Any) -> list[Entry]:
    return store.worklist.page(Wanted(**wanted))[0]


def keys(store: Store, **wanted: Any) -> list[str]:
    return [one.key for one in listed(store, **wanted)]


# -- what an entry holds ----------------------------------------------------------------------------------------------------


def test_a_study_that_only_arrived_is_listed_with_its_series(store: Store, ct: Make) -> None:
    slices = [ct(1, number=n, SeriesDescription="lung") for n in (1, 2, 3)]
    arrive(store, *slices, ct(1, "2", modality="SR"), ct(1, "3", modality="OP"))
    (one,) = listed(store)
    assert (one.key, one.study, one.name, one.patient) == ("1.1", "1.1", "Meier1^Anna", "P1")
    assert (one.study_date, one.study_time, one.description, one.accession) == ("20260115", "", "Thorax", "")
    assert [(s.series, s.modality, s.description, s.instances) for s in one.series] == [
        ("1.1.1", "CT", "lung", 3),
        ("1.1.3", "OP", "", 1),
    ]
    assert (one.arriving, one.analyses) == ((), ())


def test_an_open_series_says_what_it_waits_for(store: Store, ct: Make) -> None:
    arrive(store, ct(1, number=1), ct(1, number=2))
    store.series.touch([("1.1.1", "1.1", "CT")])
    found = store.series.known("1.1.1")
    assert found is not None
    store.series.note(found, "3 slices are missing")
    (waiting,) = listed(store, status="arriving")[0].arriving
    assert (waiting.series, waiting.modality, waiting.instances, waiting.waiting_for) == (
        "1.1.1",
        "CT",
        2,
        "3 slices are missing",
    )
    store.series.settle(found, "answered", "")
    assert listed(store)[0].arriving == () and listed(store, status="arriving") == []


def test_an_answer_in_few_words(store: Store, ct: Make) -> None:
    identity = accept(store, ct(1), ct(1, number=2))
    (waiting,) = listed(store)[0].analyses
    assert (waiting.status, waiting.outcome, waiting.answer, waiting.files) == ("queued", None, {}, 2)
    end(store, identity, NODULES)
    (one,) = listed(store)[0].analyses
    assert (one.id, one.status, one.outcome, one.model, one.series) == (
        identity,
        "completed",
        "positive",
        "sisc_lung",
        "1.1.1",
    )
    assert one.answer == {
        "version": "1.2.3",
        "laterality": "",
        "findings": 3,
        "positive": 2,
        "gradable": True,
        "top": {"finding": "n2", "label": "Malignant", "probability": 0.9, "grade": None, "decision": "positive"},
    }
    assert (one.assessed, one.rejected, one.error) == (0, 0, None)


def test_a_grade_is_shown_with_its_own_probability(store: Store, ct: Make) -> None:
    end(store, accept(store, ct(1, modality="OP"), model="clear_dr"), EYE)
    (one,) = listed(store)[0].analyses
    assert one.answer["top"] == {
        "finding": "eye",
        "label": "Moderate",
        "probability": 0.4,
        "grade": 2,
        "decision": "positive",
    }
    assert (one.answer["laterality"], one.answer["positive"]) == ("L", 1)


@pytest.mark.parametrize("result", [{"outcome": "none"}, {"outcome": "no_region", "findings": [], "quality": None}])
def test_an_answer_without_findings_has_no_top(store: Store, ct: Make, result: Any) -> None:
    end(store, accept(store, ct(1)), result)
    (one,) = listed(store)[0].analyses
    assert (one.answer["top"], one.answer["findings"], one.answer["gradable"]) == (None, 0, None)


def test_the_newest_verdict_of_each_finding_counts(store: Store, ct: Make) -> None:
    identity = accept(store, ct(1))
    end(store, identity, NODULES)
    for finding, verdict in (("n1", "rejected"), ("n2", "accepted"), ("n1", "accepted"), ("n3", "rejected")):
        store.assessments.add(identity, finding, verdict)
    (one,) = listed(store)[0].analyses
    assert (one.assessed, one.rejected) == (3, 1)


def test_a_failed_analysis_says_why(store: Store, ct: Make) -> None:
    error = {"title": "t", "detail": "too thick", "status": 422}
    end(store, accept(store, ct(1)), error=error)
    (one,) = listed(store, status="failed")[0].analyses
    assert one.error == error and one.answer == {}


def test_photographs_without_a_header_have_an_entry_each(store: Store, make: Make) -> None:
    first, second = (
        accept(store, replace(make(content), media="photograph", study_uid="", series_uid="", modality=""))
        for content in (b"1", b"2")
    )
    assert keys(store) == [f"analysis:{second}", f"analysis:{first}"]
    assert [(one.study, one.series, one.name) for one in listed(store)] == [(None, (), "")] * 2
    store.delete(first)
    assert keys(store) == [f"analysis:{second}"]


def test_results_neither_make_nor_keep_an_entry(store: Store, ct: Make) -> None:
    identity = accept(store, ct(1))
    store.begin(identity)
    made = ResultObject("SC", "1.2.840.10008.5.1.4.1.1.7", "2.25.7", "2.25.8", _part10(ct(1)))
    store.complete(identity, NODULES, [made])
    assert [s.series for s in listed(store)[0].series] == ["1.1.1"]
    store.delete(identity)
    assert listed(store) == []


def _part10(source: Instance) -> bytes:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "2.25.7"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.Modality = source.study_uid, "2.25.8", "OT"
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, made, enforce_file_format=True)
    return stream.getvalue()


# -- replaced analyses ------------------------------------------------------------------------------------------------------


def test_only_the_newest_of_a_chain_is_shown_and_links_survive_deletions(store: Store, ct: Make) -> None:
    a = accept(store, ct(1))
    b = accept(store, ct(1), supersedes=a)
    c = accept(store, ct(1), supersedes=a)  # a was replaced meanwhile: its successor is meant
    assert [(store.get(x).supersedes, store.get(x).superseded_by) for x in (a, b, c)] == [(None, b), (a, c), (b, None)]
    assert [one.id for one in listed(store)[0].analyses] == [c]
    store.delete(b)
    assert [(store.get(x).supersedes, store.get(x).superseded_by) for x in (a, c)] == [(None, c), (a, None)]
    store.delete(c)
    assert (store.get(a).supersedes, store.get(a).superseded_by) == (None, None)
    assert [one.id for one in listed(store)[0].analyses] == [a]
    d = accept(store, ct(1), supersedes=a)
    store.delete(a)
    assert store.get(d).supersedes is None
    e = accept(store, ct(1), supersedes="0" * 32)  # deleted before it was replaced
    assert store.get(e).supersedes is None and {one.id for one in listed(store)[0].analyses} == {d, e}


def test_a_purge_leaves_no_broken_link(store: Store, ct: Make) -> None:
    a = accept(store, ct(1))
    end(store, a, NODULES)
    middle = store.get(accept(store, ct(2))).created
    b = accept(store, ct(1), supersedes=a)
    assert store.purge(middle) == 1
    assert store.get(b).supersedes is None
    with pytest.raises(NotFound):
        store.get(a)


def test_a_photograph_done_again_stays_one_entry(store: Store, make: Make) -> None:
    photograph = replace(make(b"1"), media="photograph", study_uid="", series_uid="", modality="")
    first = accept(store, photograph)
    second = accept(store, photograph, supersedes=first)
    (one,) = listed(store)
    assert (one.key, [x.id for x in one.analyses]) == (f"analysis:{first}", [second])
    store.delete(first)
    assert keys(store) == [f"analysis:{first}"]
    store.delete(second)
    assert listed(store) == []


def test_a_study_of_replaced_ones_only_shows_the_newest_of_them(store: Store, ct: Make) -> None:
    first, second = accept(store, ct(1)), accept(store, ct(1))
    with store._engine.begin() as connection:
        connection.execute(update(db.analyses).values(superseded_by="f" * 32))
    assert [one.id for one in listed(store)[0].analyses] == [second] != [first]


def test_what_waits_to_be_sent_outlives_the_first_that_made_it(store: Store, ct: Make) -> None:
    """Its successor made the same objects, which are not planned again."""
    made = ResultObject("SC", "1.2.840.10008.5.1.4.1.1.7", "2.25.7", "2.25.8", _part10(ct(1)))
    first = accept(store, ct(1))
    store.begin(first)
    store.complete(first, NODULES, [made], [deliveries.row(first, "pacs", "SC", "2.25.7")])
    second = accept(store, ct(1), supersedes=first)
    store.begin(second)
    store.complete(second, NODULES, [made])
    other = accept(store, ct(1), supersedes=second)
    store.delete(first)
    (one,) = store.deliveries.of_analysis(second)
    assert (one.sop_instance_uid, one.state) == ("2.25.7", "waiting")
    store.delete(second)  # what `other` has not made goes with it
    assert store.deliveries.of_analysis(other) == []


def test_reports_of_a_chain_are_the_two_newest_that_differ(store: Store, ct: Make) -> None:
    def done(report: str | None, supersedes: str | None) -> str:
        identity = accept(store, ct(1), supersedes=supersedes)
        objects = [{"kind": "SR", "sop_instance_uid": report, "series_uid": f"{report}.0"}] if report else []
        end(store, identity, {**NODULES, "objects": objects})
        return identity

    a = done("2.1", None)
    b = done("2.2", a)
    c = done("2.2", b)  # the very same again
    d = done(None, c)
    assert [report for _, report in store.reports(d)] == [("2.2", "2.2.0"), ("2.1", "2.1.0")]
    assert [analysis.id for analysis, _ in store.reports(d)] == [c, a]
    assert store.reports(None) == []


# -- order and pages --------------------------------------------------------------------------------------------------------


def test_the_latest_event_comes_first(store: Store, ct: Make) -> None:
    arrive(store, ct(1), at="2026-01-15T10:00:00.000000Z")
    arrive(store, ct(2), at="2026-01-15T11:00:00.000000Z")
    arrive(store, ct(1, number=2), at="2026-01-15T09:00:00.000000Z")  # what was filed late came before
    assert keys(store) == ["1.2", "1.1"]
    arrive(store, ct(1, number=3), at="2026-01-15T12:00:00.000000Z")
    assert [(one.key, one.changed[11:13]) for one in listed(store)] == [("1.1", "12"), ("1.2", "11")]
    identity = accept(store, ct(2), door="dicom")
    assert keys(store) == ["1.2", "1.1"] and listed(store)[0].changed == store.get(identity).created
    for step in (
        lambda: store.begin(identity),
        lambda: store.complete(identity, NODULES),
    ):
        before = listed(store)[0].changed
        time.sleep(0.002)
        step()
        assert listed(store)[0].changed > before


def test_pages_join_up(store: Store, ct: Make) -> None:
    for n in range(7):
        arrive(store, ct(n), at=f"2026-01-15T10:00:0{n // 2}.000000Z")  # some at the same time
    seen: list[str] = []
    cursor = None
    while True:
        page, cursor = store.worklist.page(Wanted(), cursor, 2)
        seen += [one.key for one in page]
        if cursor is None:
            break
    assert seen == [f"1.{n}" for n in (6, 5, 4, 3, 2, 1, 0)]
    for wrong in ("%%%", "eHg=", "w6Q="):
        with pytest.raises(ValueError, match=".*"):
            store.worklist.page(Wanted(), wrong)


# -- filters ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ward(store: Store, ct: Make) -> dict[str, str]:
    """Four studies: 1.1 positive nodules, 1.2 an eye, 1.3 failed, 1.4 not analysed."""
    ids = {
        "1.1": accept(store, ct(1, PatientName="MÜLLER^Jörg", StudyDescription="CT Thorax 100%")),
        "1.2": accept(store, ct(2, modality="OP", AccessionNumber="ACC_7"), model="clear_dr"),
        "1.3": accept(store, ct(3)),
    }
    end(store, ids["1.1"], NODULES)
    end(store, ids["1.2"], EYE)
    end(store, ids["1.3"], error={"title": "t", "detail": "d", "status": 500})
    arrive(store, ct(4))
    return ids


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("müller", ["1.1"]),
        ("MÜLLER^jörg", ["1.1"]),
        ("jörg thorax", ["1.1"]),
        ("jörg meier", []),
        ("p2", ["1.2"]),
        ("acc_7", ["1.2"]),
        ("acc-7", []),
        ("100%", ["1.1"]),
        ("meier3", ["1.3"]),
        ("1.4", ["1.4"]),
        ("", ["1.4", "1.3", "1.2", "1.1"]),
    ],
)
def test_words(store: Store, ward: dict[str, str], text: str, found: list[str]) -> None:
    assert keys(store, words=words(text)) == found


def test_the_beginning_of_an_id_is_enough(store: Store, ward: dict[str, str]) -> None:
    for study, identity in ward.items():
        assert keys(store, words=words(identity)) == [study]
        assert keys(store, words=words(identity[:12].upper())) == [study]
    assert keys(store, words=words(f"{ward['1.1'][:8]} jörg")) == ["1.1"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"status": "completed"}, ["1.2", "1.1"]),
        ({"status": "failed"}, ["1.3"]),
        ({"status": "running"}, []),
        ({"status": "none"}, ["1.4"]),
        ({"outcome": "graded"}, ["1.2"]),
        ({"outcome": "positive", "status": "completed"}, ["1.1"]),
        ({"outcome": "positive", "model": "clear_dr"}, []),
        ({"model": "sisc_lung"}, ["1.3", "1.1"]),
        ({"modality": "OP"}, ["1.2"]),
        ({"modality": "CT", "status": "none"}, ["1.4"]),
    ],
)
def test_filters(store: Store, ward: dict[str, str], wanted: dict[str, str], found: list[str]) -> None:
    assert keys(store, **wanted) == found


def test_times_are_from_the_first_and_before_the_second(store: Store, ward: dict[str, str]) -> None:
    times = {one.key: one.changed for one in listed(store)}
    assert keys(store, since=times["1.3"]) == ["1.4", "1.3"]
    assert keys(store, until=times["1.3"]) == ["1.2", "1.1"]
    assert keys(store, since=times["1.2"], until=times["1.3"]) == ["1.2"]


def test_a_filter_looks_at_what_is_shown(store: Store, ct: Make) -> None:
    first = accept(store, ct(1))
    end(store, first, NODULES)
    accept(store, ct(1), supersedes=first)
    assert keys(store, outcome="positive") == keys(store, status="completed") == []
    assert keys(store, status="queued") == ["1.1"]


# -- what leaves the list ---------------------------------------------------------------------------------------------------


def test_an_entry_leaves_with_the_last_of_its_images_and_analyses(store: Store, ct: Make) -> None:
    arrive(store, ct(1), ct(1, "2"), at="2026-01-15T10:00:00.000000Z")
    identity = accept(store, ct(1), door="dicom")
    store.delete(identity)
    assert [(s.series, s.instances) for s in listed(store)[0].series] == [("1.1.1", 1), ("1.1.2", 1)]
    assert keys(store, status="none") == ["1.1"]
    store.archive.remove(["1.1.2.1"])
    assert [s.series for s in listed(store)[0].series] == ["1.1.1"]
    store.archive.remove(["1.1.1.1"])
    assert listed(store) == []
    with store._engine.connect() as connection:
        assert connection.execute(select(entries.series)).all() == []
        assert connection.execute(select(entries.answers)).all() == []


def test_a_purge_takes_images_nobody_needs_out_of_the_list(store: Store, ct: Make) -> None:
    arrive(store, ct(1), at="2026-01-15T10:00:00.000000Z")
    arrive(store, ct(2), at="2026-01-17T10:00:00.000000Z")
    assert store.purge("2026-01-16T00:00:00.000000Z") == 1
    assert keys(store) == ["1.2"]


def test_images_that_were_deleted_meanwhile_are_not_accepted(store: Store, ct: Make) -> None:
    gone = ct(1)
    store.blobs.put(gone.path, gone.sha256)
    stored = replace(gone, path=store.blobs.path(gone.sha256))
    put = store.blobs.put

    def removed(source: Path, sha256: str) -> Path:
        store.blobs.remove([sha256])
        return put(source, sha256)

    store.blobs.put = removed  # type: ignore[method-assign]
    with pytest.raises(NotFound, match="deleted meanwhile"):
        accept(store, stored, door="again")
    assert store.counts() == {} and listed(store) == []


# -- made anew --------------------------------------------------------------------------------------------------------------


def test_it_is_made_anew_from_the_rest(
    tmp_path: Path, store: Store, database: str, ward: dict[str, str], ct: Make
) -> None:
    """As when a version comes that knows no list, or another one."""
    again = accept(store, ct(1), supersedes=ward["1.1"])
    end(store, again, NODULES)
    photograph = replace(ct(9), media="photograph", study_uid="", series_uid="", patient_id="", attributes={})
    first = accept(store, photograph)
    accept(store, photograph, supersedes=first)
    arrive(store, ct(4, number=2), ct(4, "2", modality="SR"))
    store.series.touch([("1.4.1", "1.4", "CT")])

    def simple(one: Entry) -> Any:
        return replace(one, changed="")

    before = {one.key: simple(one) for one in listed(store)}
    assert len(before) == 5
    with store._engine.begin() as connection:
        for table in (entries.entries, entries.series, entries.answers):
            connection.execute(delete(table))
        connection.execute(text("UPDATE worklist_version SET version = 0"))
        connection.execute(update(db.analyses).where(db.analyses.c.id == first).values(supersedes="e" * 32))
    store.close()
    opened = Store(tmp_path / "data", free_bytes=0, database=database)
    try:
        assert {one.key: simple(one) for one in listed(opened)} == before
        assert opened.get(first).supersedes is None, "a link to what was deleted long ago"
        assert all(one.changed for one in listed(opened))
    finally:
        opened.close()


def test_a_newer_file_fills_in_what_the_first_left_open(store: Store, ct: Make) -> None:
    bare = replace(ct(1), attributes={})
    arrive(store, bare, at="2026-01-15T10:00:00.000000Z")
    assert keys(store, words=words("meier1")) == []
    arrive(store, ct(1, number=2, PatientSex="F"), at="2026-01-15T09:00:00.000000Z")
    (one,) = listed(store, words=words("meier1"))
    assert (one.name, one.sex, one.changed[11:13]) == ("Meier1^Anna", "F", "10")


def test_a_page_reads_no_results(store: Store, ct: Make) -> None:
    """They may be large: the list must not need them."""
    identity = accept(store, ct(1))
    end(store, identity, NODULES)
    with store._engine.begin() as connection:
        connection.execute(update(db.analyses).values(result="no JSON"))
    assert listed(store)[0].analyses[0].answer["positive"] == 2
    with store._engine.begin() as connection:
        connection.execute(update(db.analyses).values(result=json.dumps(NODULES)))


def test_unread_tables_stay_small(store: Store, ct: Make) -> None:
    """Filing the same again adds nothing."""
    for _ in range(2):
        arrive(store, ct(1), ct(1, number=2))
    with store._engine.connect() as connection:
        assert len(connection.execute(select(entries.entries)).all()) == 1
        assert len(connection.execute(select(entries.series)).all()) == 1
