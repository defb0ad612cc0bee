"""Our own result objects as instances of the archive. Their bytes were made in this process, so they are read here."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset

from service.records import Instance, ResultObject
from service.store.search import LEVEL_KEYS

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def describe(made: ResultObject) -> Instance:
    """The instance of a result object; its path is to be set."""
    ds = dcmread(io.BytesIO(made.data), defer_size=1 << 16)
    return Instance(
        path=Path(),
        sha256=hashlib.sha256(made.data).hexdigest(),
        media="dicom",
        rows=int(ds.get("Rows", 0)),
        columns=int(ds.get("Columns", 0)),
        sop_instance_uid=str(ds.SOPInstanceUID),
        frames=int(ds.get("NumberOfFrames", 1) or 1),
        samples=int(ds.get("SamplesPerPixel", 1)),
        bits=int(ds.get("BitsAllocated", 8)),
        sop_class_uid=str(ds.SOPClassUID),
        series_uid=str(ds.SeriesInstanceUID),
        study_uid=str(ds.StudyInstanceUID),
        frame_of_reference_uid=str(ds.get("FrameOfReferenceUID", "") or ""),
        modality=str(ds.get("Modality", "") or ""),
        transfer_syntax_uid=str(ds.file_meta.TransferSyntaxUID),
        photometric=str(ds.get("PhotometricInterpretation", "") or ""),
        has_pixels=any(keyword in ds for keyword in _PIXELS),
        image_type=tuple(str(part) for part in ds.get("ImageType", ()) or ()),
        patient_id=str(ds.get("PatientID", "") or ""),
        instance_number=None if ds.get("InstanceNumber") is None else int(ds.InstanceNumber),
        attributes=_attributes(ds),
    )


def _attributes(ds: Dataset) -> dict[str, Any]:
    """What it is searched by, in the DICOM JSON Model."""
    wanted = {int(tag, 16) for tag in LEVEL_KEYS["instance"]}
    chosen = Dataset()
    for tag in wanted:
        if tag in ds:
            chosen[tag] = ds[tag]
    return {"00080005": {"vr": "CS", "Value": ["ISO_IR 192"]}, **chosen.to_json_dict()}  # JSON is UTF-8 (PS3.18 F.2)
