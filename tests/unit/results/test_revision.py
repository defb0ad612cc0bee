"""Objects that are made anew after a reader's verdict: what they say, what they leave out, and what peers say about them."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pydicom
import pytest

from service.records import ResultObject
from service.results import build, common, rejection, seg, sr, wording
from service.results.pages import pages
from service.results.report import Predecessor, Report, Verdict

KINDS = ("SR", "SEG", "PM", "SC", "KOS")
WHEN = datetime(2026, 3, 4, 9, 8, 7, tzinfo=UTC)
REJECTED = Verdict("rejected", WHEN, reason="a vessel", reader="Dr. Müller")
OLD = Predecessor("2.25.11", "2.25.12")


def revised(report: Report, **verdicts: Verdict) -> Report:
    return replace(report, verdicts=verdicts, revised=WHEN, predecessor=OLD, configuration='{"revision":1}')


def read(made: ResultObject) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(made.data))


def objects(report: Report) -> dict[str, ResultObject]:
    return {made.kind: made for made in build.build(report, KINDS)}


def children(parent: pydicom.Dataset, value: str) -> list[pydicom.Dataset]:
    return [i for i in parent.get("ContentSequence", ()) if i.ConceptNameCodeSequence[0].CodeValue == value]


def coded(item: pydicom.Dataset) -> str:
    return str(item.ConceptCodeSequence[0].CodeValue)


def groups(document: pydicom.Dataset) -> list[pydicom.Dataset]:
    return [group for found in children(document, "126010") for group in children(found, "125007")]


def evaluations(document: pydicom.Dataset) -> pydicom.Dataset:
    return children(document, "C0034375")[0]


def summary(document: pydicom.Dataset) -> str:
    return " ".join(item.TextValue for item in children(evaluations(document), "121111"))


def test_a_rejected_nodule_is_recorded_and_no_finding(make_report):
    before = make_report("ct", "positive", origin="candidate")
    first, second = before.result["findings"]
    report = revised(before, r1=REJECTED)
    document = read(objects(report)["SR"])
    (group,) = groups(document)
    assert [item.UID for item in children(group, "112040")] == [second["tracking_uid"]]
    (verdict,) = children(evaluations(document), "VERDICT")
    assert coded(verdict) == "REJECTED"
    assert [item.UID for item in children(verdict, "112040")] == [first["tracking_uid"]]
    assert coded(children(verdict, "121005")[0]) == "121006"
    assert str(children(verdict, "121008")[0].PersonName).rstrip("^") == "Dr. Müller"
    assert children(verdict, "121106")[0].TextValue == "a vessel"
    assert verdict.ObservationDateTime == "20260304100807"
    # the rejected one was the positive one
    assert coded(children(evaluations(document), "OUTCOME")[0]) == "NEGATIVE"
    assert "Nodule candidate r1: rejected by a reader." in summary(document)
    assert "malignancy suspected" not in summary(document)
    assert (document.CompletionFlag, document.VerificationFlag) == ("COMPLETE", "UNVERIFIED")


def test_the_predecessor_is_named_and_the_date_is_the_verdicts(make_report):
    report = revised(make_report("ct", "positive"), r1=REJECTED)
    for made in objects(report).values():
        ds = read(made)
        # the images state +0100 and 2026-01-02 10:13:05
        assert (ds.ContentDate, ds.ContentTime) == ("20260304", "100807")
    (item,) = read(objects(report)["SR"]).PredecessorDocumentsSequence
    (series,) = item.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == OLD.series_uid
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == OLD.sop_instance_uid


def test_a_verdict_before_the_images_does_not_date_them_back(make_report):
    before = make_report("ct", "positive")
    report = replace(revised(before, r1=REJECTED), revised=datetime(2020, 1, 1, tzinfo=UTC))
    assert common.moment(report) == common.moment(before)


@pytest.mark.parametrize(("zone", "hour"), [("+0100", 10), ("-0330", 5), ("+0545", 14), ("UTC", None), (None, None)])
def test_time_zone_of_the_images_or_of_this_computer(make_report, zone, hour):
    report = revised(make_report("ct", "positive", {"TimezoneOffsetFromUTC": zone}), r1=REJECTED)
    expected = WHEN.astimezone().hour if hour is None else hour
    assert common.moment(report).hour == expected


def test_uids_differ_from_those_of_the_first_version_and_repeat(make_report):
    before = make_report("ct", "positive")
    report = revised(before, r1=REJECTED)
    first, new, again = objects(before), objects(report), objects(report)
    assert all(first[kind].sop_instance_uid != new[kind].sop_instance_uid for kind in new)
    assert all(first[kind].series_uid != new[kind].series_uid for kind in new)
    assert {kind: made.data for kind, made in new.items()} == {kind: made.data for kind, made in again.items()}


def test_segmentation_map_and_key_images_leave_the_rejected_one_out(make_report):
    before = make_report("ct", "positive")
    kept = before.result["findings"][1]
    made = objects(revised(before, r1=REJECTED))
    (segment,) = read(made["SEG"]).SegmentSequence
    assert (segment.SegmentNumber, segment.TrackingUID) == (1, kept["tracking_uid"])
    (group,) = groups(read(made["SR"]))
    (reference,) = children(group, "121191")
    assert reference.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == made["SEG"].sop_instance_uid
    # the map of a report that never had the other finding
    alone = replace(before, result={**before.result, "findings": [kept]})
    assert np.array_equal(read(made["PM"]).FloatPixelData, read(objects(alone)["PM"]).FloatPixelData)


def test_pictures_keep_their_numbers_and_say_what_was_rejected(make_report):
    before = make_report("ct", "positive")
    drawn = pages(revised(before, r1=REJECTED))
    assert [page.label for page in drawn] == ["summary", "r2 1/3", "r2 2/3", "r2 3/3"]


@pytest.mark.parametrize(("kind", "outcome"), [("ct", "positive"), ("op", "graded")])
def test_all_rejected(make_report, errors, dump, kind, outcome):
    before = make_report(kind, outcome)
    report = revised(before, **{finding["id"]: REJECTED for finding in before.result["findings"]})
    made = objects(report)
    assert set(made) == {"SR", "SC"}, "a picture says so, too: some see nothing else"
    document = read(made["SR"])
    assert groups(document) == []
    assert summary(document).startswith("A reader rejected every finding of the model: none is left.")
    assert coded(children(evaluations(document), "OUTCOME")[0]) == "ALLREJECTED"
    assert coded(children(evaluations(document), "111017")[0]) == "111241"
    assert len(children(evaluations(document), "VERDICT")) == len(before.result["findings"])
    assert [page.label for page in pages(report)] == ["summary"]
    assert [errors(one) for one in made.values()] == [[], []]
    dump(made["SR"])


def test_a_corrected_nodule_keeps_the_models_answer_and_has_the_readers_beside_it(make_report):
    before = make_report("ct", "positive")
    report = revised(before, r1=Verdict("modified", WHEN, "benign", None, "Dr. Who"))
    document = read(objects(report)["SR"])
    group = groups(document)[0]
    (verdict,) = children(group, "VERDICT")
    assert coded(verdict) == "CORRECTED" and coded(children(group, "DECISION")[0]) == "10828004"
    assert not children(verdict, "112040") and not children(verdict, "121106")
    entry = before.bundle.description["classes"][before.bundle.classes.index("benign")]
    assert coded(children(verdict, "121071")[0]) == entry["code"]["value"]
    assert not children(evaluations(document), "VERDICT")
    assert f"A reader corrects this to: {entry['label']}." in summary(document)
    assert read(objects(report)["SEG"]).SegmentSequence[0].SegmentLabel.startswith("Disputed by a reader: ")


def test_no_nodule_is_a_rejection(make_report):
    report = revised(make_report("ct", "positive"), r1=Verdict("modified", WHEN, "not_a_nodule"))
    assert [finding["id"] for finding in report.findings] == ["r2"]
    (verdict,) = children(evaluations(read(objects(report)["SR"])), "VERDICT")
    assert coded(verdict) == "CORRECTED" and coded(children(verdict, "CORRECTION")[0]) == "NONODULE"
    assert not children(verdict, "121008"), "nobody said who"
    assert "Nodule r1: no nodule, as a reader says." in wording.summary(report)


@pytest.mark.parametrize("side", ["R", ""])
def test_a_corrected_grade(make_report, side):
    report = revised(
        make_report("op", "graded", side=side, grade=2), eye=Verdict("modified", WHEN, "4", "new vessels", "A")
    )
    (group,) = groups(read(objects(report)["SR"]))
    (verdict,) = children(group, "VERDICT")
    name = "71491-5" if side else "SEVERITY"
    assert [coded(item) for item in children(verdict, name)] == ["LA18648-8"]
    assert [coded(item) for item in children(group, name)] == ["LA18645-4"], "the model's own"


def test_other_values_are_texts(make_report):
    report = revised(make_report("ct", "positive"), r1=Verdict("modified", WHEN, "granuloma"))
    (verdict,) = children(groups(read(objects(report)["SR"]))[0], "VERDICT")
    assert children(verdict, "CORRECTION")[0].TextValue == "granuloma"
    assert "granuloma" not in " ".join(wording.summary(report)), "free texts stay in the report"


def test_long_reasons_and_odd_names_stand_in_the_report(make_report, errors, dump):
    said = Verdict("rejected", WHEN, reason="line\none " + "x" * 1900, reader="O^Neill=\\李")
    report = revised(make_report("ct", "positive"), r1=said)
    made = sr.build(report)
    (verdict,) = children(evaluations(read(made)), "VERDICT")
    assert children(verdict, "121106")[0].TextValue == "line one " + "x" * 1900
    assert str(children(verdict, "121008")[0].PersonName).rstrip("^") == "O Neill 李"
    assert errors(made) == []
    dump(made)


def test_a_candidate_that_a_reader_corrected_was_seen_by_one(make_report):
    before = make_report("ct", "positive", origin="candidate")
    benign = Verdict("modified", WHEN, "benign")
    assert "no reader has confirmed" in wording.summary(revised(before, r1=benign))[-1]
    last = wording.summary(revised(before, r1=benign, r2=benign))[-1]
    assert last == "Candidates were found by software: some are no nodules, and nodules are missed."


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("kind", "outcome"), [("ct", "positive"), ("op", "graded"), ("vl", "graded"), ("sc", "graded")]
)
@pytest.mark.parametrize(
    "verdict", [REJECTED, Verdict("modified", WHEN, "1", "why", "Who"), Verdict("modified", WHEN)], ids=["no", "1", "?"]
)
def test_peers_accept_them(make_report, errors, dump, kind, outcome, verdict, sparse):
    before = make_report(kind, outcome, sparse=sparse)
    report = revised(before, **{before.result["findings"][0]["id"]: verdict})
    for made in objects(report).values():
        assert errors(made) == [], made.kind
    dump(objects(report)["SR"])


# -- rejection note ---------------------------------------------------------------------------------------------------------


def references(document: pydicom.Dataset) -> dict[str, str]:
    return {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID: item.ValueType
        for item in children(document, "260753009")
    }


@pytest.mark.parametrize("kind", ["ct", "op"])
def test_the_note_rejects_every_replaced_object(make_report, errors, dump, kind):
    before = make_report(kind, "positive" if kind == "ct" else "graded")
    old = build.build(before, KINDS)
    report = revised(before, **{before.result["findings"][0]["id"]: REJECTED})
    made = build.build(report, KINDS)
    note = rejection.build(report, old, made)
    document = read(note)
    assert (note.kind, document.Modality, document.SeriesNumber) == ("RN", "KO", 9006)
    title = document.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113001", "DCM")
    assert references(document) == {
        one.sop_instance_uid: "COMPOSITE" if one.kind in ("SR", "KOS") else "IMAGE" for one in old
    }
    (evidence,) = document.CurrentRequestedProcedureEvidenceSequence
    assert evidence.StudyInstanceUID == document.StudyInstanceUID == before.instances[0].study_uid
    listed = {
        (series.SeriesInstanceUID, one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID)
        for series in evidence.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    assert listed == {(one.series_uid, one.sop_class_uid, one.sop_instance_uid) for one in old}
    assert made[0].sop_instance_uid in children(document, "113012")[0].TextValue
    assert errors(note) == []
    dump(note)
    assert rejection.build(report, old, made).data == note.data
    others = rejection.build(report, old[:2], made)
    assert others.sop_instance_uid != note.sop_instance_uid


def test_regions_of_the_segmentation_are_those_that_stand(make_report):
    before = make_report("ct", "positive")
    assert set(seg.regions(before)) == {"r1", "r2"}
    assert set(seg.regions(revised(before, r2=REJECTED))) == {"r1"}
