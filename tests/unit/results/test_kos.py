import io

import pydicom
import pytest

from service.results import kos


def read(made):
    return pydicom.dcmread(io.BytesIO(made.data))


def children(document, value):
    return [i for i in document.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == value]


def selected(document):
    return [i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in children(document, "260753009")]


def test_findings_select_the_slices_with_centre_and_strongest_response(make_report):
    report = make_report("ct", "positive")
    made = kos.build(report)
    document = read(made)
    assert made.kind == "KOS" and document.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.59" and document.Modality == "KO"
    assert document.ConceptNameCodeSequence[0].CodeValue == "113000"
    # centre: the middle of slices 1 to 3; the maps are strongest on the last of these
    assert selected(document) == [report.instances[2].sop_instance_uid, report.instances[3].sop_instance_uid]
    assert "Nodule r1: positive" in children(document, "113012")[0].TextValue
    evidence = document.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert [i.ReferencedSOPInstanceUID for i in evidence.ReferencedSOPSequence] == selected(document)


def test_without_maps_the_centre_remains(make_report):
    report = make_report("ct", "negative", maps=False)
    assert selected(read(kos.build(report))) == [report.instances[2].sop_instance_uid]


def test_rejected_photograph_is_named_with_the_reason(make_report):
    report = make_report("op", "ungradable")
    document = read(kos.build(report))
    assert document.ConceptNameCodeSequence[0].CodeValue == "113010"
    first = document.ContentSequence[0]
    assert first.ConceptNameCodeSequence[0].CodeValue == "113011" and first.RelationshipType == "HAS CONCEPT MOD"
    assert first.ConceptCodeSequence[0].CodeValue == "111211"  # under exposed: the photograph is too dark
    assert selected(document) == [report.instances[0].sop_instance_uid]


def test_rejected_series_is_named_whole(make_report):
    report = make_report("ct", "out_of_scope")
    document = read(kos.build(report))
    assert [i.ConceptCodeSequence[0].CodeValue for i in children(document, "113011")] == ["111220"]
    assert selected(document) == [instance.sop_instance_uid for instance in report.instances]


def test_nothing_to_select(make_report):
    assert kos.build(make_report("ct", "no_region")) is None


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("ct", "positive"),
        ("ct", "negative"),
        ("ct", "out_of_scope"),
        *[(kind, outcome) for kind in ("op", "vl", "sc") for outcome in ("graded", "ungradable", "out_of_scope")],
    ],
)
def test_peers_accept_it(make_report, errors, dump, kind, outcome, sparse):
    made = kos.build(make_report(kind, outcome, sparse=sparse))
    assert errors(made) == []
    assert "Key Object Selection Document" in dump(made)
