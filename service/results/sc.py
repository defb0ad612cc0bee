"""Secondary Capture (PS3.3 A.8): the result as colour pictures, the one object that every archive and viewer shows.

A photograph, or an answer in words, is a Secondary Capture Image; several pictures are one Multi-frame True Color Secondary
Capture Image. Uncompressed RGB, because every receiver takes that.
"""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage, SecondaryCaptureImageStorage

from service.records import ResultObject
from service.results import common, planes
from service.results.pages import pages
from service.results.report import Report

FRAME_LABEL_VECTOR = 0x00182002


def build(report: Report) -> ResultObject | None:
    """Make the object, for every outcome.

    Returns
    -------
    ResultObject
        Never None: a negative, ungradable or unanswered analysis says so in words, and what to do about it.
    """
    drawn = pages(report)
    dataset = Dataset()
    several = len(drawn) > 1
    dataset.SOPClassUID = MultiFrameTrueColorSecondaryCaptureImageStorage if several else SecondaryCaptureImageStorage
    dataset.Modality = "OT"
    dataset.BodyPartExamined = planes.body_part(report)
    if dataset.BodyPartExamined == "EYE":
        dataset.Laterality = planes.side(report)
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.PatientOrientation = None
    dataset.BurnedInAnnotation = "YES"
    dataset.RecognizableVisualFeatures = "NO"
    dataset.DerivationDescription = "Response map of a neural network over the image, with legend and result"
    used = {key for page in drawn for key in page.sources}
    planes.refer(dataset, report, [at for at, instance in enumerate(report.instances) if instance.key in used])
    for keyword, value in planes.lossy(report).items():
        setattr(dataset, keyword, value)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.Columns, dataset.Rows = drawn[0].image.size
    if several:
        dataset.NumberOfFrames = len(drawn)
        dataset.FrameIncrementPointer = FRAME_LABEL_VECTOR
        dataset.FrameLabelVector = [common.line(page.label, 16) for page in drawn]
    pixels = b"".join(np.asarray(page.image).tobytes() for page in drawn)
    dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)
    return common.finish(dataset, report, "SC")
