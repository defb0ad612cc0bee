import io
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.sr._concepts_dict import concepts

from service.records import ResultObject
from service.results import codes, common, kos, sr
from service.results.report import Predecessor

CODE, TEXT, NUM = "CODE", "TEXT", "NUM"


def read(made):
    return pydicom.dcmread(io.BytesIO(made.data))


def items(parent, value=None):
    """Children with the concept's code value."""
    return [
        item
        for item in parent.get("ContentSequence", ())
        if value is None or item.ConceptNameCodeSequence[0].CodeValue == value
    ]


def one(parent, value):
    (found,) = items(parent, value)
    return found


def coded(item):
    code = item.ConceptCodeSequence[0]
    return code.CodeValue, code.CodingSchemeDesignator


def number(item):
    measured = item.MeasuredValueSequence[0]
    return float(measured.NumericValue), measured.MeasurementUnitsCodeSequence[0].CodeValue


def walk(item):
    yield item
    for child in item.get("ContentSequence", ()):
        yield from walk(child)


def texts(document):
    return [item.TextValue for item in walk(document) if item.ValueType == TEXT]


def evaluations(document):
    return one(document, "C0034375")


def measurement_groups(document):
    return items(one(document, "126010"), "125007")


SEG_UID, TRACKED = "2.25.77", "112040"


@pytest.fixture
def segmentation():
    """A segmentation with one segment, number 3, of a tracking UID."""

    def build(tracking_uid):
        dataset = pydicom.Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.66.4", SEG_UID
        segment = pydicom.Dataset()
        segment.SegmentNumber, segment.TrackingUID = 3, tracking_uid
        dataset.SegmentSequence = [segment]
        return ResultObject("SEG", dataset.SOPClassUID, SEG_UID, "2.25.78", common.encode(dataset))

    return build


KNOWN_ELSEWHERE = {
    # LOINC: the contract of the results names them (terms 71490-7, 71491-5, answer list LL2117-1)
    *("71491-5", "71490-7", "LA18643-9", "LA18644-7", "LA18645-4", "LA18646-2", "LA18648-8"),
    "C0034375",  # PS3.16 TID 1500 row 12
    "en",  # RFC 5646
    "276214006",  # TID 1501; the dictionary has SNOMED's longer name
}


def all_codes():
    for value in vars(codes).values():
        parts = value.values() if isinstance(value, dict) else [value] if isinstance(value, codes.Code) else value
        if isinstance(value, dict | tuple):
            yield from (part for part in parts if isinstance(part, codes.Code))


def test_every_code_is_in_the_dictionaries_with_this_meaning():
    checked = set()
    for code in all_codes():
        if code.scheme_designator != codes.PRIVATE and code.value not in KNOWN_ELSEWHERE:
            known = concepts[code.scheme_designator].values()
            # SNOMED's fully specified names end with the kind of concept
            meanings = [entry[code.value][0].removesuffix(" (attribute)") for entry in known if code.value in entry]
            assert code.meaning in meanings, (code, meanings)
            checked.add(code.value)
    assert len(checked) > 60


def test_private_codes_are_short_unique_and_identified(make_report):
    own = [code for code in all_codes() if code.scheme_designator == codes.PRIVATE]
    assert len({code.value for code in own}) == len(own) > 10
    assert all(len(code.value) <= 16 and len(code.meaning) <= 64 for code in own)
    identified = read(sr.build(make_report("ct", "positive"))).CodingSchemeIdentificationSequence[0]
    assert identified.CodingSchemeDesignator == "99PELLUCID" and identified.CodingSchemeName


def test_document_is_a_complete_unverified_measurement_report(make_report):
    made = sr.build(make_report("ct", "positive"))
    document = read(made)
    assert made.kind == "SR" and made.sop_class_uid == document.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert (document.Modality, document.CompletionFlag, document.VerificationFlag) == ("SR", "COMPLETE", "UNVERIFIED")
    assert document.ConceptNameCodeSequence[0].CodeValue == "126000"
    template = document.ContentTemplateSequence[0]
    assert (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "1500")
    assert coded(one(document, "121049")) == ("en", "RFC5646")
    assert coded(one(document, "121005")) == ("121007", "DCM")
    assert read(made).ContributingEquipmentSequence[0].DeviceUID == one(document, "121012").UID
    assert one(document, "121013").TextValue == "Pellucid"
    assert {"121014", "121015", "121016"} <= {i.ConceptNameCodeSequence[0].CodeValue for i in items(document)}


def test_procedure_is_the_imaging_procedure(make_report):
    assert coded(one(read(sr.build(make_report("ct", "negative"))), "121058")) == ("25045-6", "LN")
    assert coded(one(read(sr.build(make_report("op", "graded"))), "121058")) == ("363679005", "SCT")
    coding = pydicom.Dataset()
    coding.CodeValue, coding.CodingSchemeDesignator, coding.CodeMeaning = "24627-2", "LN", "CT Chest"
    report = make_report("ct", "negative", {"ProcedureCodeSequence": [coding]})
    assert coded(one(read(sr.build(report)), "121058")) == ("24627-2", "LN")


def test_nodule_without_segmentation_is_a_planar_group_with_a_place_on_its_slice(make_report, bundles):
    report = make_report("ct", "positive")
    first, second = measurement_groups(read(sr.build(report)))
    assert first.ContentTemplateSequence[0].TemplateIdentifier == "1410"
    finding = report.result["findings"][0]
    assert one(first, "112039").TextValue == "Nodule r1" and one(second, "112039").TextValue == "Nodule r2"
    assert finding["tracking_uid"] == one(first, "112040").UID
    assert coded(one(first, "121071")) == ("27925004", "SCT")
    site = one(first, "363698007")
    assert coded(site) == ("39607008", "SCT") and not items(site)
    assert number(one(first, "111047")) == (0.83, "1") and number(one(second, "111047")) == (0.12, "1")
    benign = one(first, "122157")
    assert number(benign) == (0.17, "1") and coded(items(benign)[0]) == ("30807003", "SCT")
    region = one(first, "111030")
    # 48 mm round pixel (114.3, 83.8), in coordinates whose whole numbers are borders of pixels
    assert region.GraphicType == "POINT" and np.allclose(region.GraphicData, (114.8, 84.3))
    assert region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == (
        report.instances[2].sop_instance_uid
    )
    assert coded(one(first, "ORIGIN")) == ("REQUEST", "99PELLUCID")


def test_decision_names_its_operating_point(make_report, bundles):
    point = bundles["sisc_lung"].operating_point()
    for group, sign in zip(
        measurement_groups(read(sr.build(make_report("ct", "positive")))), ("10828004", "260385009"), strict=True
    ):
        decision = one(group, "DECISION")
        assert coded(decision) == (sign, "SCT")
        assert number(one(decision, "111071")) == (pytest.approx(point.threshold), "1")
        assert number(one(decision, "111088")) == (pytest.approx(100 * point.sensitivity, abs=0.05), "%")
        assert number(one(decision, "111090")) == (pytest.approx(100 * point.specificity, abs=0.05), "%")
        described = one(decision, "111081").TextValue
        assert described.startswith("balanced: ") and f"{point.n} cases" in described


def test_algorithm_is_identified_with_its_weights(make_report, bundles):
    group = measurement_groups(read(sr.build(make_report("ct", "positive"))))[0]
    assert one(group, "111001").TextValue == "SISC: malignancy of a lung nodule from CT"
    assert one(group, "111003").TextValue == bundles["sisc_lung"].version
    assert f"weights sha256 {bundles['sisc_lung'].sha256}" in [i.TextValue for i in items(group, "111002")]
    assert coded(one(group, "111000")) == ("123110", "DCM")


def test_nodule_with_a_segment_refers_to_it(make_report, segmentation):
    report = make_report("ct", "positive")
    seg = segmentation(report.result["findings"][1]["tracking_uid"])
    document = read(sr.build(report, [seg]))
    first, second = measurement_groups(document)
    assert first.ContentTemplateSequence[0].TemplateIdentifier == "1410" and not items(first, "121191")
    assert second.ContentTemplateSequence[0].TemplateIdentifier == "1411" and not items(second, "111030")
    referenced = one(second, "121191").ReferencedSOPSequence[0]
    assert (referenced.ReferencedSOPInstanceUID, referenced.ReferencedSegmentNumber) == (SEG_UID, 3)
    sources = [i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in items(second, "121233")]
    assert sources == [instance.sop_instance_uid for instance in report.instances[1:4]]
    assert one(second, "111010").GraphicType == "POINT"


def test_evidence_lists_every_source_and_every_other_object(make_report, segmentation):
    report = make_report("ct", "positive")
    others = [
        segmentation("2.25.1"),
        ResultObject("SC", "1.2.840.10008.5.1.4.1.1.7.4", "2.25.80", "2.25.81", b""),
        ResultObject("KOS", "1.2.840.10008.5.1.4.1.1.88.59", "2.25.82", "2.25.83", b""),
    ]
    document = read(sr.build(report, others))
    listed = {}
    for study in document.CurrentRequestedProcedureEvidenceSequence:
        assert study.StudyInstanceUID == report.instances[0].study_uid
        for series in study.ReferencedSeriesSequence:
            listed[series.SeriesInstanceUID] = [i.ReferencedSOPInstanceUID for i in series.ReferencedSOPSequence]
    assert listed == {
        report.instances[0].series_uid: [instance.sop_instance_uid for instance in report.instances],
        "2.25.78": [SEG_UID],
        "2.25.81": ["2.25.80"],
        "2.25.83": ["2.25.82"],
    }
    referenced = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID: item.ValueType
        for item in items(one(document, "121180"))
    }
    assert referenced == {SEG_UID: "IMAGE", "2.25.80": "IMAGE", "2.25.82": "COMPOSITE"}
    assert document.SOPInstanceUID != read(sr.build(report)).SOPInstanceUID


@pytest.mark.parametrize(
    ("origin", "name"), [("request", "Nodule r1"), ("reference", "Nodule r1"), ("candidate", "Nodule candidate r1")]
)
def test_origin_is_said_and_a_candidate_is_called_one(make_report, origin, name):
    report = make_report("ct", "positive", origin=origin)
    document = read(sr.build(report))
    group = measurement_groups(document)[0]
    assert coded(one(group, "ORIGIN"))[0] == origin.upper()
    assert one(group, "112039").TextValue == name
    assert report.result["findings"][0]["tracking_uid"] == one(group, "112040").UID
    summary = " ".join(i.TextValue for i in items(evaluations(document), "121111"))
    assert ("no reader has confirmed" in summary) is (origin == "candidate")
    # A size and a certainty that the search measured; a size that somebody else measured is theirs to report.
    assert [number(i) for i in items(group, "81827009")] == ([(8.4, "mm")] if origin == "candidate" else [])
    assert [number(i) for i in items(group, "111012")] == ([(70.0, "%")] if origin == "candidate" else [])
    region = one(group, "111030")
    assert region.GraphicType == ("POINT" if origin == "request" else "CIRCLE")
    if region.GraphicType == "CIRCLE":
        x0, y0, x1, y1 = region.GraphicData
        assert x1 - x0 == pytest.approx(8.4 / 2 / 0.7, abs=1e-4) and y1 == y0


@pytest.mark.parametrize(
    ("side", "concept", "laterality"),
    [("R", "71491-5", "24028007"), ("L", "71490-7", "7771000"), ("", "SEVERITY", None)],
)
@pytest.mark.parametrize("grade", range(5))
def test_eye_is_graded_by_side(make_report, side, concept, laterality, grade):
    report = make_report("op", "graded", side=side, grade=grade)
    document = read(sr.build(report))
    (group,) = measurement_groups(document)
    assert group.ContentTemplateSequence[0].TemplateIdentifier == "1501"
    severity = one(group, concept)
    answers = ("LA18643-9", "LA18644-7", "LA18645-4", "LA18646-2", "LA18648-8")
    assert coded(severity) == (answers[grade], "LN")
    assert number(one(severity, "111012")) == (88.0, "%")
    site = one(group, "363698007")
    assert coded(site) == ("5665001", "SCT")
    assert [coded(i)[0] for i in items(site, "272741003")] == ([laterality] if laterality else [])
    probabilities = {coded(items(i)[0])[0]: number(i)[0] for i in items(group, "122157")}
    assert probabilities == {answer: 0.88 if answer == answers[grade] else 0.03 for answer in answers}
    assert report.result["findings"][0]["tracking_uid"] == one(group, "112040").UID
    # p(>= 2) is 0.94 for grades 2 to 4, else 0.09; p(>= 3) is 0.91 or 0.06: above and below the thresholds
    assert coded(one(group, "MTMDR"))[0] == ("10828004" if grade >= 2 else "260385009")
    assert coded(one(group, "VTDR"))[0] == ("10828004" if grade >= 3 else "260385009")
    assert not items(group, "DECISION")
    run = coded(one(evaluations(document), "111017"))[0]
    assert run == ("111242" if grade else "111241")
    assert any("which eye" in text for text in texts(document)) is (side == "")


def test_graded_field_lies_on_the_photograph(make_report):
    field = one(measurement_groups(read(sr.build(make_report("op", "graded"))))[0], "FIELD")
    # box (30, -20, 290, 240) on 320 x 240 px
    assert list(field.GraphicData) == [30, 0, 290, 0, 290, 240, 30, 240, 30, 0]


@pytest.mark.parametrize(
    ("kind", "outcome", "run", "code", "said"),
    [
        ("ct", "positive", "111242", "POSITIVE", "1 of 2 places are positive"),
        ("ct", "negative", "111242", "NEGATIVE", "does not exclude malignancy"),
        ("ct", "no_region", "111243", "NOREGION", "no statement about whether there are nodules"),
        ("ct", "out_of_scope", "111245", "OUTOFSCOPE", "The slices are not axial."),
        ("op", "graded", "111242", "GRADED", "Moderate NPDR (grade 2 of 0-4), probability 0.88"),
        (
            "op",
            "graded",
            "111242",
            "GRADED",
            "More than mild diabetic retinopathy: positive (probability 0.94, threshold {limit:.2f})",
        ),
        (
            "op",
            "graded",
            "111242",
            "GRADED",
            "Vision-threatening diabetic retinopathy: negative (probability 0.06, thre",
        ),
        ("op", "ungradable", "111245", "UNGRADABLE", "The photograph is too dark. Raise the flash."),
        ("op", "out_of_scope", "111245", "OUTOFSCOPE", "This is no photograph of the retina."),
    ],
)
def test_every_outcome_says_what_happened(make_report, kind, outcome, run, code, said):
    report = make_report(kind, outcome, warned=("something was left out",))
    document = read(sr.build(report))
    whole = evaluations(document)
    assert coded(one(whole, "111017")) == (run, "DCM") and coded(one(whole, "OUTCOME")) == (code, "99PELLUCID")
    limit = report.bundle.operating_point().threshold
    assert said.format(limit=limit) in " ".join(i.TextValue for i in items(whole, "121111"))
    assert [i.TextValue for i in items(whole, "121106")] == ["Something was left out."]
    assert one(whole, "USE").TextValue == "Research use only. Not a medical device; not for primary diagnosis."
    assert len(items(whole, "LIMIT")) == len(report.bundle.description["limits_of_use"])
    assert bool(items(document, "126010")) is bool(report.result["findings"])
    assert report.result["quality"]["code"]["value"] == coded(one(whole, "111101"))[0]


def test_quality_says_why_and_what_to_do(make_report):
    quality = one(evaluations(read(sr.build(make_report("op", "ungradable")))), "111101")
    assert coded(quality) == ("111235", "DCM")
    assert one(quality, "113010").TextValue == "The photograph is too dark."
    assert one(quality, "121075").TextValue == "Raise the flash."


def test_a_run_that_left_a_region_out_is_not_called_complete(make_report):
    report = make_report("ct", "negative")
    report.result["input"]["checks"].append({"id": "window", "result": "fail", "message": "region r2: all is black"})
    whole = evaluations(read(sr.build(report)))
    assert coded(one(whole, "111017")) == ("111244", "DCM")
    assert "Region r2: all is black." in [i.TextValue for i in items(whole, "CHECK")]


def test_predecessor_is_named(make_report):
    document = read(sr.build(make_report("ct", "positive", predecessor=Predecessor("2.25.5", "2.25.6"))))
    (study,) = document.PredecessorDocumentsSequence
    series = study.ReferencedSeriesSequence[0]
    named = series.ReferencedSOPSequence[0]
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (document.StudyInstanceUID, "2.25.6")
    assert (named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID) == (document.SOPClassUID, "2.25.5")
    assert "PredecessorDocumentsSequence" not in read(sr.build(make_report("ct", "positive")))


@pytest.mark.parametrize("whole", [False, True])
def test_frames_of_an_enhanced_object_are_referred_to_by_number(make_report, errors, dump, whole):
    """The body names frames as "UID#frame"; the report's instances are these frames, or the object they are in."""
    report = make_report("ct", "positive")
    enhanced = {"sop_instance_uid": "1.2.3", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2.1"}
    frames = [replace(instance, **enhanced, frame=n) for n, instance in enumerate(report.instances, 1)]
    names = {old.key: new.key for old, new in zip(report.instances, frames, strict=True)}
    result = renamed(report.result, names)
    instances = (replace(frames[0], frame=0),) if whole else tuple(frames)
    enhanced_report = replace(report, result=result, instances=instances, headers=report.headers[: len(instances)])
    document = read(made := sr.build(enhanced_report))
    region = one(measurement_groups(document)[0], "111030").ContentSequence[0].ReferencedSOPSequence[0]
    assert (region.ReferencedSOPInstanceUID, region.ReferencedFrameNumber) == ("1.2.3", 3)
    library = items(one(one(document, "111028"), "126200"), "260753009")
    assert [i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in library] == ["1.2.3"]
    assert errors(made) == [] and dump(made)
    selection = kos.build(enhanced_report)
    selected = [i.ReferencedSOPSequence[0].ReferencedFrameNumber for i in items(read(selection), "260753009")]
    assert selected == [3, 4] and errors(selection) == [] and dump(selection)


def renamed(value, names):
    if isinstance(value, dict):
        return {key: renamed(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [renamed(part, names) for part in value]
    return names.get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        *[("ct", outcome) for outcome in ("positive", "negative", "out_of_scope", "no_region")],
        *[(kind, outcome) for kind in ("op", "vl", "sc") for outcome in ("graded", "ungradable", "out_of_scope")],
    ],
)
def test_peers_accept_it(make_report, errors, dump, kind, outcome, sparse):
    made = sr.build(make_report(kind, outcome, sparse=sparse, side="", warned=("a\\b\nwarning",)))
    assert errors(made) == []
    assert "Comprehensive 3D SR Document" in dump(made)


@pytest.mark.parametrize(
    ("names", "written", "warning", "stored"),
    [
        ("ISO_IR 100", "Müller^Jörg", "Zähler", "ISO_IR 100"),
        ("ISO_IR 100", "Müller^Jörg", "≥ 3", "ISO_IR 192"),
        ("ISO_IR 192", "Иванов^Иван", "≥ 3", "ISO_IR 192"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "counter", ["", "ISO 2022 IR 87"]),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "Zähler", "ISO_IR 192"),
    ],
)
def test_peers_accept_it_in_other_languages(make_report, errors, dump, names, written, warning, stored):
    header = {"PatientName": written, "SpecificCharacterSet": names}
    made = sr.build(make_report("op", "graded", header, warned=(warning,)))
    assert errors(made) == []
    assert "Document" in dump(made)
    document = read(made)
    found = document.SpecificCharacterSet
    assert (found if isinstance(found, str) else list(found)) == stored
    assert str(document.PatientName) == written
    assert any(warning.capitalize() in text for text in texts(document))
