"""What segmentations and parametric maps share: source images as highdicom wants them, and pixels put in frame by frame.

highdicom describes the object (functional groups, dimensions, references) from small place holders for the pixels; the real
ones are packed here in the order of its frames. So an object never needs more memory than its own bytes and one slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, VLPhotographicImageStorage
from pydicom.valuerep import DS

from service import uids
from service.records import Instance
from service.results import common
from service.results.report import Report

_BLANK = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
"""Copied by highdicom; `common.finish` replaces them with the source's."""
_METHODS = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.53": "ISO_10918_1",
    "1.2.840.10008.1.2.4.55": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}
"""Lossy transfer syntaxes with their Lossy Image Compression Method (PS3.3 C.7.6.1.1.5.1)."""


def referable(report: Report) -> bool:
    """Whether there are DICOM images that an object can refer to."""
    return all(instance.media == "dicom" and instance.sop_class_uid for instance in report.instances)


def spatial(report: Report) -> bool:
    """Whether the images lie in the patient: slices of a series, not photographs."""
    return all(instance.position and instance.orientation and instance.pixel_spacing for instance in report.instances)


def placeholder(report: Report, at: int, size: tuple[int, int]) -> Dataset:
    """Header of source image `at` as highdicom reads it, with the size of the place holders (rows, columns).

    Every slice, also a frame of an enhanced CT, is passed as a CT image of its own. A photograph is passed as VL Photographic
    Image without frames or frame of reference, whatever it is: highdicom takes no Ophthalmic Photography Image.
    `describe_sources` puts the truth back.
    """
    instance = report.instances[at]
    image = Dataset()
    for keyword in _BLANK:
        setattr(image, keyword, None)
    image.StudyInstanceUID = common.study_uid(report)
    image.SOPInstanceUID = _stand_in(instance)
    image.SeriesInstanceUID = _series(instance)
    image.Rows, image.Columns = size
    image.Modality = instance.modality or "OT"
    for keyword, value in lossy(report).items():
        setattr(image, keyword, value)
    if image.get("LossyImageCompression") == "01":
        image.setdefault("LossyImageCompressionRatio", "1")
    if not spatial(report):
        image.SOPClassUID = VLPhotographicImageStorage
        return image
    image.SOPClassUID = CTImageStorage
    first = report.instances[0]
    image.FrameOfReferenceUID = first.frame_of_reference_uid or uids.of("frame of reference", _series(first))
    image.ImagePositionPatient = _decimals(instance.position)
    image.ImageOrientationPatient = _decimals(first.orientation)
    image.PixelSpacing = _decimals(first.pixel_spacing)
    image.SliceThickness = None if first.slice_thickness is None else DS(first.slice_thickness, auto_format=True)
    return image


def frame_sources(dataset: Dataset, report: Report) -> list[int]:
    """Number of the source image, in `report.instances`, of every frame that highdicom described."""
    known = {_stand_in(instance): at for at, instance in enumerate(report.instances)}
    return [known[str(_source(frame).ReferencedSOPInstanceUID)] for frame in dataset.PerFrameFunctionalGroupsSequence]


def describe_sources(dataset: Dataset, report: Report) -> None:
    """Put the source images themselves into the references of every frame, and refer to them from the object."""
    order = frame_sources(dataset, report)
    for frame, at in zip(dataset.PerFrameFunctionalGroupsSequence, order, strict=True):
        _name(_source(frame), report.instances[at])
        if report.instances[at].frame:
            _source(frame).ReferencedFrameNumber = report.instances[at].frame
    refer(dataset, report, sorted(set(order)))


def refer(dataset: Dataset, report: Report, used: Sequence[int]) -> None:
    """Source Image Sequence and Referenced Series Sequence (PS3.3 C.7.6.1, C.12.2) of the source images with these numbers."""
    if not referable(report):
        return
    frames: dict[str, list[Instance]] = {}
    for at in used:
        frames.setdefault(report.instances[at].sop_instance_uid, []).append(report.instances[at])
    images, within = [], []
    for instances in frames.values():
        image, reference, purpose = Dataset(), Dataset(), Dataset()
        _name(image, instances[0])
        _name(reference, instances[0])
        numbers = [instance.frame for instance in instances if instance.frame]
        if numbers:
            image.ReferencedFrameNumber = numbers
        purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
        purpose.CodeMeaning = "Source image for image processing operation"
        image.PurposeOfReferenceCodeSequence = [purpose]
        images.append(image)
        within.append(reference)
    series = Dataset()
    series.SeriesInstanceUID = _series(report.instances[0])
    series.ReferencedInstanceSequence = within
    dataset.SourceImageSequence, dataset.ReferencedSeriesSequence = images, [series]


def lossy(report: Report) -> dict[str, Any]:
    """Lossy Image Compression (0028,2110), its ratio and method, carried on from the source images (PS3.3 C.7.6.1.1.5)."""
    method = next((_METHODS[i.transfer_syntax_uid] for i in report.instances if i.transfer_syntax_uid in _METHODS), "")
    for header in report.headers:
        if str(header.get("LossyImageCompression") or "") == "01":
            ratios, methods = (_texts(header.get(f"LossyImageCompression{name}")) for name in ("Ratio", "Method"))
            stated: dict[str, Any] = {"LossyImageCompression": "01"}
            if ratios and len(ratios) == len(methods) and all(map(_is_number, ratios)):
                stated |= {"LossyImageCompressionRatio": ratios, "LossyImageCompressionMethod": methods}
            elif method:
                stated["LossyImageCompressionMethod"] = method
            return stated
    return (
        {"LossyImageCompression": "01", "LossyImageCompressionMethod": method}
        if method
        else {"LossyImageCompression": "00"}
    )


def body_part(report: Report) -> str:
    """Body Part Examined (0018,0015), PS3.16 annex L."""
    return "CHEST" if report.bundle.task == "nodule_malignancy" else "EYE"


def side(report: Report) -> str:
    """R or L for the eye that was looked at; empty where nobody said which."""
    stated = str(report.result["input"]["laterality"])
    return stated if stated in ("R", "L") else ""


def _series(instance: Instance) -> str:
    return instance.series_uid or uids.of("series", instance.sop_instance_uid)


def _stand_in(instance: Instance) -> str:
    """UID that a slice goes by while highdicom describes it."""
    return uids.of("frame", instance.key) if instance.frame else instance.sop_instance_uid


def _source(frame: Dataset) -> Dataset:
    return frame.DerivationImageSequence[0].SourceImageSequence[0]  # type: ignore[no-any-return]


def _name(reference: Dataset, instance: Instance) -> None:
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = (
        instance.sop_class_uid,
        instance.sop_instance_uid,
    )


def _decimals(values: Any) -> list[Any]:
    return [DS(float(value), auto_format=True) for value in values]


def _texts(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    return [str(part) for part in ([value] if isinstance(value, str | float | int) else value)]


def _is_number(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False
