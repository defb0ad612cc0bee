import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from service.results.build import build

ALL = ("SR", "SEG", "PM", "SC", "KOS")
CASES = [
    *[("ct", outcome) for outcome in ("positive", "negative", "out_of_scope", "no_region")],
    *[(kind, outcome) for kind in ("op", "vl", "sc") for outcome in ("graded", "ungradable", "out_of_scope")],
]


def read(made):
    return pydicom.dcmread(io.BytesIO(made.data))


@pytest.mark.parametrize(("kind", "outcome"), CASES)
@pytest.mark.parametrize("sparse", [False, True])
def test_every_object_of_every_outcome_is_valid_and_the_report_names_all(make_report, errors, kind, outcome, sparse):
    report = make_report(kind, outcome, sparse=sparse)
    made = build(report, ALL)
    assert made[0].kind == "SR" and len({one.kind for one in made}) == len(made)
    assert {one.kind: errors(one) for one in made} == {one.kind: [] for one in made}
    evidence = [
        (series.SeriesInstanceUID, item.ReferencedSOPInstanceUID)
        for study in read(made[0]).CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]
    assert {(one.series_uid, one.sop_instance_uid) for one in made[1:]} <= set(evidence)
    for one in made:
        dataset = read(one)
        assert dataset.StudyInstanceUID == report.instances[0].study_uid
        assert dataset.PatientID == ("" if sparse else "4711")
        assert (dataset.SOPInstanceUID, dataset.SeriesInstanceUID) == (one.sop_instance_uid, one.series_uid)
        assert "InstanceCreationDate" not in dataset


def test_a_finding_has_one_tracking_uid_in_all_objects(make_report):
    report = make_report("ct", "positive", origin="reference")
    tracked = [finding["tracking_uid"] for finding in report.result["findings"]]
    made = {one.kind: read(one) for one in build(report, ("SR", "SEG"))}
    assert [segment.TrackingUID for segment in made["SEG"].SegmentSequence] == tracked
    (measurements,) = [i for i in made["SR"].ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010"]
    for number, group in enumerate(measurements.ContentSequence, 1):
        by_code = {i.ConceptNameCodeSequence[0].CodeValue: i for i in group.ContentSequence}
        assert tracked[number - 1] == by_code["112040"].UID
        segment = by_code["121191"].ReferencedSOPSequence[0]
        assert segment.ReferencedSOPInstanceUID == made["SEG"].SOPInstanceUID
        assert segment.ReferencedSegmentNumber == number


@pytest.mark.parametrize("kinds", [(), ("SR",), ("KOS",), ("SEG", "SR")])
def test_only_what_is_wanted_is_made(make_report, kinds):
    made = build(make_report("ct", "positive"), kinds)
    assert {one.kind for one in made} == set(kinds)


def test_share_changes_the_segmentation_and_what_refers_to_it(make_report):
    report = make_report("ct", "positive")
    half, most = (build(report, ("SR", "SEG"), region_share=share) for share in (0.5, 0.9))
    assert [one.sop_instance_uid for one in half] != [one.sop_instance_uid for one in most]


def test_photographs_without_a_header_get_no_objects(make_report):
    report = make_report("op", "graded")
    photograph = replace(report.instances[0], media="photograph")
    assert build(replace(report, instances=(photograph,)), ALL) == ()


SCRIPT = """
import hashlib, importlib.util, sys
sys.path.insert(0, sys.argv[2])
spec = importlib.util.spec_from_file_location("parts", sys.argv[1])
parts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parts)
from models.bundle import load
from service.results.build import build
bundles = {name: load(parts.ROOT / "models" / name) for name in ("sisc_lung", "clear_dr")}
header = {"PatientName": "Müller^Jörg"}
for report in (
    parts.ct_report(bundles["sisc_lung"], "positive", {**parts.COMPLETE, **header}, True, "candidate", ("a warning",)),
    parts.eye_report(bundles["clear_dr"], "op", "graded", parts.COMPLETE, True, "L", 3, ()),
    parts.eye_report(bundles["clear_dr"], "sc", "ungradable", {}, True, "", 3, ()),
):
    for made in build(report, ("SR", "SEG", "PM", "SC", "KOS")):
        print(made.kind, made.sop_instance_uid, hashlib.sha256(made.data).hexdigest())
"""


def test_another_run_makes_the_same_bytes():
    """Another process, later, with other hash seed and time zone."""
    here = Path(__file__).parent
    runs = []
    for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo")):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(here / "conftest.py"), str(here.parents[2])],
            env={"PYTHONHASHSEED": seed, "TZ": zone, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        runs.append(done.stdout.splitlines())
    assert len(runs[0]) >= 10 and runs[0] == runs[1]


def test_importing_the_builder_does_not_import_highdicom():
    code = "import sys, service.results.build; sys.exit('highdicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == 0
