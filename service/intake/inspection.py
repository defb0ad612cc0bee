"""What an instance says about itself, as the service asks for it. Runs in the child only."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from service.errors import InputError
from service.intake import attributes, dicom, elements, functional_groups
from service.intake.limits import Limits

_TAGS = dicom.tags(
    sorted(
        {*dicom.IMAGE_KEYWORDS, *attributes.KEYWORDS, attributes.CHARACTER_SET, attributes.EQUIPMENT, attributes.ORDERS}
    )
)


def inspect(stream: BinaryIO, limits: Limits) -> tuple[dict[str, Any], np.ndarray]:
    """Header of an instance as the fields of `records.Instance`, and the geometry of its frames.

    Returns
    -------
    fields : dict
    planes : ndarray, float64, shape (frames, 14)
        Of an enhanced CT, see `functional_groups.planes`; no rows of anything else.

    Raises
    ------
    InputError
        Truncated or damaged; a missing or malformed SOP Instance UID; fewer bytes of pixels than the header states.
    TooLarge
        More pixels, bytes or metadata than `limits` allows.
    UnknownMedia
        Pixels in a transfer syntax that is not read.
    """
    source = dicom.read(stream, limits, _TAGS)
    found = _fields(source)
    return found, functional_groups.planes(stream, source, found["sop_class_uid"], found["frames"], limits)


def _fields(source: dicom.Source) -> dict[str, Any]:
    ds = source.dataset
    searched = attributes.attributes(ds)
    spacing, thickness = elements.numbers(ds, "PixelSpacing", 2), elements.numbers(ds, "SliceThickness", 1)
    slope, intercept = elements.numbers(ds, "RescaleSlope", 1), elements.numbers(ds, "RescaleIntercept", 1)
    if spacing is not None and min(spacing) <= 0:
        raise InputError(f"{elements.label('PixelSpacing')} is not positive; correct the header and send it again")
    sop_instance = elements.identifier(ds, "SOPInstanceUID")
    if not sop_instance:
        raise InputError(
            "it has no SOP Instance UID (0008,0018): without it nothing can refer to this instance; export it again"
        )
    number = elements.value(ds, "InstanceNumber")
    return {
        "media": "dicom",
        "rows": elements.whole(ds, "Rows"),
        "columns": elements.whole(ds, "Columns"),
        "sop_instance_uid": sop_instance,
        "frames": elements.whole(ds, "NumberOfFrames", 1),
        "samples": elements.whole(ds, "SamplesPerPixel", 1),
        "bits": elements.whole(ds, "BitsAllocated", 8),
        "sop_class_uid": elements.identifier(ds, "SOPClassUID"),
        "series_uid": elements.identifier(ds, "SeriesInstanceUID"),
        "study_uid": elements.identifier(ds, "StudyInstanceUID"),
        "frame_of_reference_uid": elements.identifier(ds, "FrameOfReferenceUID"),
        "modality": elements.text(ds, "Modality"),
        "transfer_syntax_uid": str(source.transfer_syntax),
        "photometric": elements.text(ds, "PhotometricInterpretation"),
        "has_pixels": source.pixels is not None,
        "image_type": elements.texts(ds, "ImageType"),
        "pixel_spacing": spacing,
        "orientation": elements.numbers(ds, "ImageOrientationPatient", 6),
        "position": elements.numbers(ds, "ImagePositionPatient", 3),
        "slice_thickness": thickness[0] if thickness and thickness[0] > 0 else None,
        "rescale": (slope[0], intercept[0] if intercept else 0.0) if slope else None,
        "laterality": elements.text(ds, "ImageLaterality") or elements.text(ds, "Laterality"),
        "patient_id": elements.text(ds, "PatientID"),
        "instance_number": None if number is None else elements.whole(ds, "InstanceNumber"),
        "attributes": searched,
    }
