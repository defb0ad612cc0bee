import io
from datetime import datetime

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from service import __version__, uids
from service.results import common, repertoire
from service.results.report import Predecessor

PATIENT = {
    "PatientName": "Doe^Jane",
    "PatientID": "4711",
    "IssuerOfPatientID": "Clinic",
    "PatientBirthDate": "19500203",
    "PatientSex": "F",
    "PatientAge": "076Y",
    "StudyDate": "20260102",
    "StudyTime": "101112",
    "StudyID": "S1",
    "StudyDescription": "Thorax",
    "AccessionNumber": "A-1",
    "ReferringPhysicianName": "Who^Doctor",
    "TimezoneOffsetFromUTC": "+0100",
}


def document(**elements):
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def read(made):
    return pydicom.dcmread(io.BytesIO(made.data))


def test_patient_and_study_are_the_sources_and_replace_what_a_constructor_wrote(make_report):
    made = common.finish(
        document(PatientName="Somebody^Else", PatientComments="x", ClinicalTrialProtocolID="y", SeriesDate="20200101"),
        make_report("ct", "positive"),
        "SR",
    )
    dataset = read(made)
    assert {keyword: str(dataset[keyword].value) for keyword in PATIENT} == PATIENT
    assert dataset.StudyInstanceUID == "1.2.826.0.1.3680043.8.1055.1.1"
    assert dataset.SpecificCharacterSet == "ISO_IR 100"
    assert "PatientComments" not in dataset and "ClinicalTrialProtocolID" not in dataset
    assert "SeriesDate" not in dataset and "InstanceCreationDate" not in dataset


def test_equipment_is_ours_and_the_device_uid_follows_the_weights(make_report, bundles):
    dataset = read(common.finish(document(), make_report("ct", "positive"), "KOS"))
    sha = bundles["sisc_lung"].sha256
    item = dataset.ContributingEquipmentSequence[0]
    for part in (dataset, item):
        assert part.Manufacturer == "Pellucid"
        assert part.ManufacturerModelName == "SISC: malignancy of a lung nodule from CT"
        assert list(part.SoftwareVersions) == [f"Pellucid {__version__}", f"sisc_lung {bundles['sisc_lung'].version}"]
        assert part.DeviceSerialNumber == sha
        assert part.DeviceUID == uids.device(sha)
    purpose = item.PurposeOfReferenceCodeSequence[0]
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109102", "DCM")
    assert (dataset.SeriesNumber, dataset.InstanceNumber) == (9005, 1)


def test_type_2_attributes_are_present_and_empty_where_the_source_has_none(make_report):
    dataset = read(common.finish(document(), make_report("ct", "positive", sparse=True), "SR"))
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        assert keyword in dataset and not dataset[keyword].value
    assert "AccessionNumber" in dataset and "ReferringPhysicianName" in dataset
    assert "IssuerOfPatientID" not in dataset and "SpecificCharacterSet" not in dataset


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_a_value_that_breaks_its_vr_is_left_out_but_never_an_identifier(make_report):
    bad = {"PatientBirthDate": "3.2.1950", "PatientSex": "W", "PatientAge": "old", "PatientID": "x" * 70}
    dataset = read(common.finish(document(), make_report("op", "graded", bad), "SR"))
    assert dataset.PatientBirthDate == "" and dataset.PatientSex == "" and "PatientAge" not in dataset
    assert dataset.PatientID == "x" * 70


def test_qualifiers_of_issuers_are_copied_whole(make_report):
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "1.2.3", "ISO"
    empty = Dataset()
    empty.LocalNamespaceEntityID = ""
    header = {"IssuerOfAccessionNumberSequence": [issuer], "IssuerOfAdmissionIDSequence": [empty]}
    dataset = read(common.finish(document(), make_report("op", "graded", header), "SR"))
    assert dataset.IssuerOfAccessionNumberSequence[0].UniversalEntityID == "1.2.3"
    assert "IssuerOfAdmissionIDSequence" not in dataset


def test_deidentification_always_has_a_method(make_report):
    dataset = read(common.finish(document(), make_report("op", "graded", {"PatientIdentityRemoved": "YES"}), "SR"))
    assert dataset.PatientIdentityRemoved == "YES" and dataset.DeidentificationMethod


def test_the_date_is_the_latest_that_the_images_state(make_report):
    report = make_report("ct", "positive")
    assert common.moment(report) == datetime(2026, 1, 2, 10, 13, 5, 250000)
    report.headers[3].ContentDate, report.headers[3].ContentTime = "20260103", "08"
    assert common.moment(report) == datetime(2026, 1, 3, 8)
    dataset = read(common.finish(document(), report, "SR"))
    assert (dataset.ContentDate, dataset.ContentTime) == ("20260103", "080000")


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_dates_that_cannot_be_read_do_not_count(make_report):
    bad = {"StudyDate": "20261399", "StudyTime": "99"}
    assert common.moment(make_report("ct", "positive", bad, sparse=True)) == common.UNDATED
    half = make_report("ct", "positive", {"StudyDate": "20260105", "StudyTime": "noon"}, sparse=True)
    assert common.moment(half) == datetime(2026, 1, 5)


def test_uids_depend_on_all_that_changes_the_object_and_on_nothing_else(make_report):
    base = make_report("ct", "positive")
    same = common.instance_uid(make_report("ct", "positive", {"PatientID": "other"}), "SR")
    assert common.instance_uid(base, "SR") == same
    others = [
        common.instance_uid(base, "SEG"),
        common.instance_uid(base, "SR", "0.5"),
        common.instance_uid(make_report("ct", "positive", configuration='{"a":1}'), "SR"),
        common.instance_uid(make_report("ct", "positive", predecessor=Predecessor("2.25.1", "2.25.2")), "SR"),
        common.instance_uid(make_report("op", "graded"), "SR"),
        common.series_uid(base, "SR"),
        common.series_uid(base, "SEG"),
    ]
    assert len({same, *others}) == 1 + len(others)
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in others)


def test_a_study_that_the_source_does_not_name_is_derived(make_report):
    report = make_report("op", "graded", {"StudyInstanceUID": None})
    assert common.study_uid(report).startswith("2.25.")
    assert read(common.finish(document(), report, "SR")).StudyInstanceUID == common.study_uid(report)


def test_random_uids_are_replaced_consistently_and_given_ones_stay(make_report):
    report = make_report("ct", "positive", {"IrradiationEventUID": "1.2.3.4.5"})
    wanted = []
    for _ in range(2):
        drawn, other = generate_uid(), generate_uid()
        nested = Dataset()
        nested.DimensionOrganizationUID, nested.ReferencedSOPInstanceUID = drawn, report.instances[0].sop_instance_uid
        nested.IrradiationEventUID = "1.2.3.4.5"
        nested.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        top = document(DimensionOrganizationUID=drawn, ConcatenationUID=other, DimensionOrganizationSequence=[nested])
        made = common.finish(top, report, "SEG")
        dataset = read(made)
        item = dataset.DimensionOrganizationSequence[0]
        assert item.DimensionOrganizationUID == dataset.DimensionOrganizationUID != drawn
        assert dataset.ConcatenationUID not in (other, dataset.DimensionOrganizationUID)
        assert item.ReferencedSOPInstanceUID == report.instances[0].sop_instance_uid
        assert (item.IrradiationEventUID, item.ReferencedSOPClassUID) == ("1.2.3.4.5", "1.2.840.10008.5.1.4.1.1.2")
        wanted.append(made.data)
    assert wanted[0] == wanted[1]


def test_the_file_is_explicit_little_endian_part_10_with_a_fixed_implementation(make_report):
    made = common.finish(document(), make_report("ct", "positive"), "SR")
    assert made.data[:128] == bytes(128) and made.data[128:132] == b"DICM"
    meta = read(made).file_meta
    assert meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert meta.ImplementationClassUID == uids.IMPLEMENTATION_CLASS_UID
    assert meta.ImplementationVersionName == f"PELLUCID_{__version__}"
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (
        made.sop_class_uid,
        made.sop_instance_uid,
    )


@pytest.mark.parametrize(
    ("names", "written", "stored"),
    [
        ("ISO_IR 100", "Müller^Jörg", "ISO_IR 100"),
        ("ISO_IR 192", "Иванов^Иван", "ISO_IR 192"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", ["ISO 2022 IR 13", "ISO 2022 IR 87"]),
        ("ISO_IR 144", "Люкceмбypг", "ISO_IR 144"),
        ("GB18030", "Wang^XiaoDong=王^小东", "GB18030"),
        (None, "Müller", "ISO_IR 192"),  # what the source's default repertoire could not hold
        ("ISO_IR 100", "Иванов", "ISO_IR 192"),
        ("ISO_IR 999", "Miller", "ISO_IR 192"),
        (None, "Miller", None),
    ],
)
def test_names_survive_in_the_sources_character_set_or_in_utf_8(make_report, names, written, stored):
    header = {"PatientName": written, "SpecificCharacterSet": names}
    dataset = read(common.finish(document(), make_report("op", "graded", header), "SR"))
    assert str(dataset.PatientName) == written
    found = dataset.get("SpecificCharacterSet")
    assert (found if found is None or isinstance(found, str) else list(found)) == stored


def test_our_own_text_moves_a_document_to_utf_8_where_the_sources_set_cannot_hold_it(make_report):
    report = make_report("op", "graded", {"PatientName": "Müller", "SpecificCharacterSet": "ISO_IR 100"})
    nested = Dataset()
    nested.TextValue = "Knoten 結節"
    dataset = read(common.finish(document(ContentSequence=[nested]), report, "SR"))
    assert dataset.SpecificCharacterSet == "ISO_IR 192"
    assert (str(dataset.PatientName), dataset.ContentSequence[0].TextValue) == ("Müller", "Knoten 結節")


@pytest.mark.parametrize(
    ("names", "text", "held"),
    [
        (["ISO 2022 IR 6", "ISO 2022 IR 87"], "é", False),
        (["", "ISO 2022 IR 87"], "é", False),
        (["", "ISO 2022 IR 100"], "é", True),
        (["ISO_IR 13"], "¥", False),
        (["", "ISO 2022 IR 149"], "김희중", True),
        (["ISO 2022 IR 87"], "김", False),
        (["ISO 2022 IR 159"], "김", False),
    ],
)
def test_repertoires(names, text, held):
    assert repertoire.holds(names, [text]) is held


def test_line_is_one_printable_line_without_backslash():
    assert common.line("a\\b\n\tc\0d " + "x" * 80, 12) == "a b c d xxxx"
