"""What all result objects share: identity, origin in the source images, equipment, encoding.

Everything here is a function of the `Report` and nothing else, so that a re-run makes byte-identical objects and an archive
keeps one copy. That holds for dates and times too: an object is dated with the latest moment that its source images state, or
with that of the verdict for which it was made anew, never with the clock, and the optional Instance Creation Date and Time are
left out.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from types import MappingProxyType

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import validate_value

from service import __version__, uids
from service.records import Instance, MadeKind, ResultObject
from service.results import repertoire
from service.results.report import Report

MANUFACTURER = "Pellucid"

SERIES: Mapping[MadeKind, tuple[int, str]] = MappingProxyType(
    {
        "SR": (9001, "Pellucid report"),
        "SEG": (9002, "Pellucid critical regions"),
        "PM": (9003, "Pellucid response maps"),
        "SC": (9004, "Pellucid overlay"),
        "KOS": (9005, "Pellucid key images"),
        "RN": (9006, "Pellucid rejection note"),
    }
)
"""Series Number and Series Description of each kind of object: each kind has a series of its own."""

UNDATED = datetime(1900, 1, 1)
"""Moment of objects whose source images carry no date at all."""

TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
"""Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): present, empty when unknown."""
_COPIED = (
    *TYPE_2,
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "QualityControlSubject",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
    "StudyDescription",
    "IssuerOfAccessionNumberSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "TimezoneOffsetFromUTC",
)
_VERBATIM = {"PatientName", "PatientID", "AccessionNumber", "StudyID"}
"""What an archive files an object by: copied even where the source's value breaks its VR."""
_FOREIGN_GROUPS = (0x0010, 0x0012)
"""Patient and clinical trial: only what is copied on purpose may stand there."""
_TEXT_VRS = {"SH", "LO", "ST", "LT", "PN", "UC", "UT"}
"""Value representations that Specific Character Set applies to (PS3.5 6.1.2.3)."""
_LASTING = ("2.25.", "1.2.840.10008.")
"""Roots of UIDs that this service derives and that the standard defines."""
_MOMENTS = ("Content", "Acquisition", "Series", "Study")


def identity(report: Report, kind: MadeKind, *details: str) -> tuple[str, ...]:
    """All that an object of this kind depends on, as the name of its UIDs."""
    predecessor = report.predecessor.sop_instance_uid if report.predecessor else ""
    sources = sorted({instance.sop_instance_uid for instance in report.instances})
    made_by = (__version__, report.bundle.name, report.bundle.version, report.bundle.sha256, report.configuration)
    return (kind, *made_by, predecessor, f"{len(details)}", *details, *sources)


def instance_uid(report: Report, kind: MadeKind, *details: str) -> str:
    """SOP Instance UID of the object; `details` are what it depends on besides the report."""
    return uids.of("instance", *identity(report, kind, *details))


def series_uid(report: Report, kind: MadeKind, *details: str) -> str:
    """Series Instance UID of the object: a series for each kind and analysis."""
    return uids.of("series", *identity(report, kind, *details))


def study_uid(report: Report) -> str:
    """The source's study, or one made from the sources where they name none."""
    first = report.instances[0]
    return first.study_uid or uids.of("study", *sorted({instance.sop_instance_uid for instance in report.instances}))


def source_series_uid(instance: Instance) -> str:
    """The series of a source image, or one made from it where it names none."""
    return instance.series_uid or uids.of("series", instance.sop_instance_uid)


def moment(report: Report) -> datetime:
    """The latest content, acquisition, series or study date and time that the source images state, or that of a later verdict."""
    stated = max((found for header in report.headers for found in _moments(header)), default=UNDATED)
    return stated if report.revised is None else max(stated, local(report, report.revised).replace(tzinfo=None))


def local(report: Report, when: datetime) -> datetime:
    """A moment in the time zone of the source images (0008,0201), or of this computer where they state none."""
    for header in report.headers:
        try:
            hours, minutes = divmod(abs(int(str(header.get("TimezoneOffsetFromUTC") or "x"))), 100)
        except ValueError:
            continue
        sign = -1 if str(header.TimezoneOffsetFromUTC).startswith("-") else 1
        return when.astimezone(timezone(sign * timedelta(hours=hours % 24, minutes=minutes)))
    return when.astimezone()


def _moments(header: Dataset) -> Iterator[datetime]:
    for stem in _MOMENTS:
        date = str(header.get(f"{stem}Date") or "")[:8]
        digits, _, fraction = str(header.get(f"{stem}Time") or "").replace(":", "").partition(".")
        for time in (f"{digits:0<6.6}.{fraction:0<6.6}", "000000.000000"):
            try:
                yield datetime.strptime(f"{date}{time}", "%Y%m%d%H%M%S.%f")
                break
            except ValueError:
                continue


def line(text: str, limit: int = 64) -> str:
    """Text as a value of VR LO or SH: one line, no backslash, at most `limit` characters (PS3.5 6.2)."""
    kept = "".join(character if character.isprintable() and character != "\\" else " " for character in text)
    return " ".join(kept.split())[:limit].strip()


def start(report: Report) -> Dataset:
    """Patient and study of the source images, ready for a new object.

    Type 2 attributes are always present. A value that breaks its VR is left out, except those that an archive files an
    object by. Source: PS3.3 C.7.1.1, C.7.2.1, C.7.2.2, C.12.1.
    """
    dataset = Dataset()
    for keyword in _COPIED:
        element = next((copy for header in report.headers if (copy := _copied(header, keyword)) is not None), None)
        if element is not None:
            dataset.add(element)
        elif keyword in TYPE_2:
            dataset.add(_element(keyword, ""))
    if dataset.PatientSex not in ("M", "F", "O"):
        dataset.PatientSex = ""
    if dataset.get("PatientIdentityRemoved") == "YES" and not (
        "DeidentificationMethod" in dataset or "DeidentificationMethodCodeSequence" in dataset
    ):
        dataset.DeidentificationMethod = "Not stated by the source images"
    dataset.StudyInstanceUID = study_uid(report)
    return dataset


def device_uids(report: Report) -> list[str]:
    """Device UID (0018,1002): changes whenever the weights change."""
    return [uids.device(report.bundle.sha256)]


def model_name(report: Report) -> str:
    """Manufacturer's Model Name (0008,1090): the model's title, or its name where it has none."""
    return line(str(report.bundle.description.get("title") or report.bundle.name))


def serial_number(report: Report) -> str:
    """Device Serial Number (0018,1000): the hash of the weights."""
    return report.bundle.sha256[:64]


def software_versions(report: Report) -> list[str]:
    """Software Versions (0018,1020): of the service and of the model."""
    return [line(f"{MANUFACTURER} {__version__}"), line(f"{report.bundle.name} {report.bundle.version}")]


def equipment(report: Report) -> Dataset:
    """Enhanced General Equipment (PS3.3 C.7.5.2) of an object: the service with the model that answered."""
    dataset = Dataset()
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = model_name(report)
    dataset.DeviceSerialNumber = serial_number(report)
    dataset.SoftwareVersions = software_versions(report)
    dataset.DeviceUID = device_uids(report)
    return dataset


def contribution(report: Report) -> Dataset:
    """Item of Contributing Equipment Sequence (0018,A001), PS3.3 C.12.1.1.5."""
    item = equipment(report)
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109102", "DCM"
    purpose.CodeMeaning = "Processing Equipment"
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.ContributionDescription = f"Model {line(report.bundle.name)}, version {line(report.bundle.version)}"
    return item


def finish(dataset: Dataset, report: Report, kind: MadeKind, *details: str) -> ResultObject:
    """Give an object its identity, origin and equipment, and encode it.

    Patient, study, series, equipment, SOP instance and dates are set here, whatever the constructor has put there. A UID
    that comes neither from the source images nor from this service nor from the standard was drawn at random by a library:
    it is replaced by a deterministic one, the same for the same, also inside sequences.

    Parameters
    ----------
    dataset : Dataset
        The object with its SOP Class UID and all that is its own; changed in place.
    report : Report
    kind : MadeKind
    *details : str
        What the object depends on besides the report, e.g. the share that a region is cut at. The same strings must be
        given to `instance_uid` and `series_uid` where these are needed beforehand.
    """
    for element in list(dataset):
        if element.tag.group in _FOREIGN_GROUPS:
            del dataset[element.tag]
    for keyword in ("InstanceCreationDate", "InstanceCreationTime", "SeriesDate", "SeriesTime", "InstanceCreatorUID"):
        dataset.pop(keyword, None)
    dataset.update(start(report))
    dataset.update(equipment(report))
    dataset.ContributingEquipmentSequence = [contribution(report)]
    dataset.SOPInstanceUID = instance_uid(report, kind, *details)
    dataset.SeriesInstanceUID = series_uid(report, kind, *details)
    dataset.SeriesNumber, dataset.SeriesDescription = SERIES[kind]
    dataset.InstanceNumber = 1
    when = moment(report)
    dataset.ContentDate, dataset.ContentTime = when.strftime("%Y%m%d"), when.strftime("%H%M%S")
    _settle_uids(dataset, report, identity(report, kind, *details))
    _settle_character_set(dataset, report)
    return ResultObject(
        kind, str(dataset.SOPClassUID), dataset.SOPInstanceUID, dataset.SeriesInstanceUID, encode(dataset)
    )


def encode(dataset: Dataset) -> bytes:
    """A whole Part 10 file in Explicit VR Little Endian (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(uids.IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = uids.IMPLEMENTATION_VERSION
    plain = Dataset(dataset)
    plain.file_meta = meta
    stream = io.BytesIO()
    plain.save_as(stream, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return stream.getvalue()


def _element(keyword: str, value: object) -> DataElement:
    tag = tag_for_keyword(keyword)
    assert tag is not None  # noqa: S101 - keywords of this module
    return DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE)


def _copied(header: Dataset, keyword: str) -> DataElement | None:
    """The element on its own, free of the source's encoding; None where it is absent, empty or not usable."""
    if keyword not in header:
        return None
    return _clean(header[keyword], keyword in _VERBATIM)


def _clean(element: DataElement, verbatim: bool) -> DataElement | None:
    if element.VR == "SQ":
        items = [_clean_item(item) for item in element.value or ()]
        whole = [item for item in items if len(item)]
        return DataElement(element.tag, "SQ", Sequence(whole)) if whole else None
    if element.is_empty:
        return None
    values = list(element.value) if isinstance(element.value, MultiValue | list) else [element.value]
    texts = [str(value).strip("\0 ") for value in values] if element.VR not in ("OB", "OW", "UN") else []
    if not any(texts):
        return None
    if not verbatim:
        try:
            for text in texts:
                validate_value(element.VR, text, config.RAISE)
        except ValueError:
            return None
    value = texts if len(texts) > 1 else texts[0]
    return DataElement(element.tag, element.VR, value, validation_mode=config.IGNORE)


def _clean_item(item: Dataset) -> Dataset:
    copy = Dataset()
    for element in item:
        cleaned = _clean(element, verbatim=False)
        if cleaned is not None and not element.tag.is_private:
            copy.add(cleaned)
    return copy


def _walk(dataset: Dataset) -> Iterator[DataElement]:
    for element in dataset:
        yield element
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _walk(item)


def _settle_uids(dataset: Dataset, report: Report, name: tuple[str, ...]) -> None:
    """Replace what a library drew at random."""
    own = _own(report)
    foreign = [uid for uid in _uids(dataset) if not uid.startswith(_LASTING) and uid not in own]
    if not foreign:
        return
    given = {uid for header in report.headers for uid in _uids(header)}
    drawn = dict.fromkeys(uid for uid in foreign if uid not in given)
    replaced = {uid: uids.of("element", f"{index}", *name) for index, uid in enumerate(drawn)}
    for element in _walk(dataset):
        if element.VR == "UI":
            values = [replaced.get(value, value) for value in _values(element)]
            if values != _values(element):
                element.value = values if len(values) > 1 else values[0]


def _own(report: Report) -> set[str]:
    """UIDs of the source images, and of the objects that the report names."""
    known = {report.predecessor.sop_instance_uid, report.predecessor.series_uid} if report.predecessor else set()
    for instance in report.instances:
        known |= {instance.sop_instance_uid, instance.series_uid, instance.study_uid, instance.frame_of_reference_uid}
    for region in report.regions.values():
        known |= {region.source_uid, region.tracking_uid}
    return known


def _uids(dataset: Dataset) -> Iterator[str]:
    for element in _walk(dataset):
        if element.VR == "UI":
            yield from _values(element)


def _values(element: DataElement) -> list[str]:
    value = element.value
    return [str(part) for part in (value if isinstance(value, MultiValue | list) else [value]) if part]


def _settle_character_set(dataset: Dataset, report: Report) -> None:
    """The sources' character set, or UTF-8 where it cannot hold what stands in the object."""
    found = next((header.get("SpecificCharacterSet") for header in report.headers), None) or ""
    names = [str(name) for name in ([found] if isinstance(found, str) else found)]
    if repertoire.holds(names, _texts(dataset)):
        if any(names):
            dataset.SpecificCharacterSet = names if len(names) > 1 else names[0]
        else:
            dataset.pop("SpecificCharacterSet", None)
    else:
        dataset.SpecificCharacterSet = repertoire.UTF_8


def _texts(dataset: Dataset) -> Iterator[str]:
    for element in _walk(dataset):
        if element.VR in _TEXT_VRS:
            yield from _values(element)
