"""Reports of every outcome on small synthetic images, and the peers that judge the objects made from them."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from models.bundle import Bundle, load
from service import uids
from service.pipeline import body
from service.records import Check, Instance, Quality, Region, ResponseMap, ResultObject
from service.results.report import Predecessor, Report

ROOT = Path(__file__).resolve().parents[3]
CLASSES = {
    "ct": "1.2.840.10008.5.1.4.1.1.2",
    "op": "1.2.840.10008.5.1.4.1.1.77.1.5.1",
    "vl": "1.2.840.10008.5.1.4.1.1.77.1.4",
    "sc": "1.2.840.10008.5.1.4.1.1.7",
}
MODALITIES = {"ct": "CT", "op": "OP", "vl": "XC", "sc": "OT"}
NOT_CHECKED = (
    "W: Check for template constraints not yet supported",
    "W: The VR checker does not support this Specific Character Set",
    "W: Reading unknown/unsupported SpecificCharacterSet (\\ISO 2022 IR 87)",
)
"""What dsrdump says about itself."""
PREFIX = "1.2.826.0.1.3680043.8.1055.1"
"""As a scanner numbers: not below 2.25."""
SLICES, SPACING, THICKNESS = 5, 0.7, 1.5

COMPLETE = {
    "PatientName": "Doe^Jane",
    "PatientID": "4711",
    "IssuerOfPatientID": "Clinic",
    "PatientBirthDate": "19500203",
    "PatientSex": "F",
    "PatientAge": "076Y",
    "StudyDate": "20260102",
    "StudyTime": "101112",
    "SeriesDate": "20260102",
    "SeriesTime": "101200",
    "AcquisitionDate": "20260102",
    "AcquisitionTime": "101305.250",
    "ContentDate": "20260102",
    "ContentTime": "101300",
    "TimezoneOffsetFromUTC": "+0100",
    "StudyID": "S1",
    "StudyDescription": "Thorax",
    "AccessionNumber": "A-1",
    "ReferringPhysicianName": "Who^Doctor",
    "Manufacturer": "Scanners",
    "ManufacturerModelName": "Model 1",
    "DeviceSerialNumber": "77",
    "SoftwareVersions": "v1",
    "SpecificCharacterSet": "ISO_IR 100",
}
OUTCOMES = {
    "ct": ("positive", "negative", "out_of_scope", "no_region"),
    "op": ("graded", "ungradable", "out_of_scope"),
}


@pytest.fixture(scope="session")
def bundles() -> dict[str, Bundle]:
    """The real models: lung and retina."""
    return {name: load(ROOT / "models" / name) for name in ("sisc_lung", "clear_dr")}


def _header(kind: str, index: int, changes: dict[str, Any]) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CLASSES[kind], f"{PREFIX}.{index + 10}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{PREFIX}.1", f"{PREFIX}.2"
    dataset.Modality, dataset.InstanceNumber = MODALITIES[kind], index + 1
    if kind == "ct":
        dataset.Rows, dataset.Columns = 160, 200
        dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = f"{PREFIX}.3", ""
        dataset.PixelSpacing, dataset.SliceThickness = [SPACING, SPACING], THICKNESS
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [-70.0, -56.0, 100 + THICKNESS * index]
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    else:
        dataset.Rows, dataset.Columns = 240, 320
        dataset.ImageType = ["ORIGINAL", "PRIMARY"]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
        if kind == "op":
            dataset.NumberOfFrames, dataset.ImageLaterality = 1, "R"
    for keyword, value in changes.items():
        if value is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, value)
    return dataset


def _instance(header: Dataset, sha: int) -> Instance:
    mm = header.get("ImagePositionPatient")
    return Instance(
        path=Path("somewhere"),
        sha256=f"{sha:064x}",
        media="dicom",
        rows=header.Rows,
        columns=header.Columns,
        sop_instance_uid=header.SOPInstanceUID,
        samples=header.SamplesPerPixel,
        bits=header.BitsAllocated,
        sop_class_uid=header.SOPClassUID,
        series_uid=header.get("SeriesInstanceUID", ""),
        study_uid=header.get("StudyInstanceUID", ""),
        frame_of_reference_uid=header.get("FrameOfReferenceUID", ""),
        modality=header.get("Modality", ""),
        pixel_spacing=(SPACING, SPACING) if mm else None,
        orientation=(1, 0, 0, 0, 1, 0) if mm else None,
        position=tuple(float(v) for v in mm) if mm else None,
        slice_thickness=THICKNESS if mm else None,
        laterality=header.get("ImageLaterality", ""),
    )


def _maps(bundle: Bundle, instances: list[Instance], box: tuple[float, ...], size: int, peak: int) -> ResponseMap:
    """A smooth bump for the last class right of the centre, another for the first left of it; strongest at `peak`."""
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    response = np.zeros((len(instances), len(bundle.classes), size, size), np.float32)
    for index in range(len(instances)):
        strength = 1.0 / (1 + abs(index - peak))
        response[index, -1] = strength * np.exp(-((x - 0.1) ** 2 + y**2) / 0.01) - 0.05
        response[index, 0] = 0.5 * strength * np.exp(-((x + 0.2) ** 2 + y**2) / 0.01) - 0.05
    colour = () if instances[0].samples == 1 else (3,)
    probabilities = np.linspace(1, 2, len(bundle.classes))
    return ResponseMap(
        response=response,
        background=np.full((len(instances), 64, 64, *colour), 90, np.uint8),
        classes=bundle.classes,
        box_px=np.array([box] * len(instances), np.float64),
        sources=tuple(instance.key for instance in instances),
        probabilities=probabilities / probabilities.sum(),
        rule="guided",
        start="contrast",
        reference=1.0,
        peak_slice=peak,
    )


def _nodule(
    bundle: Bundle, instances: list[Instance], region: Region, malignant: float, maps: ResponseMap | None
) -> dict[str, Any]:
    seen = instances[1:4]
    probabilities = {"benign": 1 - malignant, "malignant": malignant}
    keys = [instance.key for instance in seen]
    return {
        "id": region.id,
        "tracking_uid": region.tracking_uid or uids.tracking(keys, bundle.sha256, region.id),
        "label": "Malignant" if malignant > 0.5 else "Benign",
        "probabilities": probabilities,
        "operating_point": body.decision(bundle.operating_point(), probabilities),
        "location": {
            "sop_instance_uid": keys[1],
            "center_mm": [10.0, 5.0, 103.0],
            "diameter_mm": region.diameter_mm,
            "box_px": list(BOX),
            "origin": region.origin,
        },
        "slices": [{"sop_instance_uid": key, "probabilities": probabilities} for key in keys],
        "evidence": body.no_evidence() if maps is None else body.evidence(maps, region.id, ["clear"]),
    }


BOX = (80.5, 50.0, 149.1, 118.6)
"""48 mm square round pixel (114.3, 83.8): 48 / 0.7 = 68.6 px."""


def ct_report(
    bundle: Bundle,
    outcome: str,
    changes: dict[str, Any],
    maps: bool,
    origin: str,
    warned: tuple[str, ...],
    **more: Any,
) -> Report:
    headers = [_header("ct", index, changes) for index in range(SLICES)]
    instances = [_instance(header, index) for index, header in enumerate(headers)]
    checks = [Check("slices", "pass", "5 slices", 5, 1), Check("spacing", "warn", "the slices are thin", 1.5, 2)]
    found: list[dict[str, Any]] = []
    responses: dict[str, ResponseMap] = {}
    regions: dict[str, Region] = {}
    if outcome == "out_of_scope":
        checks.append(Check("orientation", "fail", "the slices are not axial", 80.0, 20.0))
    elif outcome != "no_region":
        for number, chance in enumerate((0.83, 0.12) if outcome == "positive" else (0.12,), 1):
            region = Region(
                f"r{number}",
                (10.0, 5.0, 103.0),
                origin=origin,  # type: ignore[arg-type]
                diameter_mm=None if origin == "request" else 8.4,
                score=0.7 if origin == "candidate" else None,
                tracking_uid=f"{PREFIX}.99.{number}" if origin == "reference" else "",
            )
            response = _maps(bundle, instances[1:4], BOX, 96, peak=2) if maps else None
            found.append(_nodule(bundle, instances, region, chance, response))
            regions[region.id] = region
            if response is not None:
                responses[region.id] = response
    result = _result(bundle, outcome, instances, body.quality_of_checks(checks), found, warned, "", checks)
    return Report(result, bundle, tuple(instances), tuple(headers), responses, regions, **more)


def _result(
    bundle: Bundle,
    outcome: str,
    instances: list[Instance],
    quality: dict[str, Any],
    found: list[dict[str, Any]],
    warned: tuple[str, ...],
    side: str,
    checks: list[Check],
) -> dict[str, Any]:
    return {
        "outcome": outcome,
        "timing_ms": {},
        "model": body.model(bundle),
        "input": body.input_part(instances, side, checks),
        "quality": quality,
        "findings": found,
        "objects": [],
        "delivery": [],
        "warnings": list(warned),
        "disclaimer": body.DISCLAIMER,
    }


def eye_report(
    bundle: Bundle,
    kind: str,
    outcome: str,
    changes: dict[str, Any],
    maps: bool,
    side: str,
    grade: int,
    warned: tuple[str, ...],
    **more: Any,
) -> Report:
    header = _header(kind, 0, changes)
    instance = _instance(header, 0)
    reasons = {
        "ungradable": ({"code": "too_dark", "message": "the photograph is too dark", "retake": "Raise the flash."},),
        "out_of_scope": (
            {
                "code": "not_a_fundus",
                "message": "this is no photograph of the retina",
                "retake": "Send the photograph.",
            },
        ),
    }.get(outcome, ())
    quality = body.quality(Quality(not reasons, 0.3 if reasons else 0.9, reasons))
    found, responses = [], {}
    if outcome == "graded":
        values = np.full(5, 0.03)
        values[grade] = 0.88
        probabilities = dict(zip(bundle.classes, values.tolist(), strict=True))
        box = (30.0, -20.0, 290.0, 240.0)
        response = _maps(bundle, [instance], box, 128, peak=0) if maps else None
        if response is not None:
            responses["eye"] = response
        found.append(
            {
                "id": "eye",
                "tracking_uid": uids.tracking([instance.sop_instance_uid], bundle.sha256, "eye"),
                "label": body.label(bundle, grade),
                "grade": grade,
                "referable": {name: bundle.operating_point(name).decide(probabilities) for name in ("mtmDR", "vtDR")},
                "probabilities": probabilities,
                "operating_point": body.decision(bundle.operating_point(), probabilities),
                "location": {
                    "sop_instance_uid": instance.sop_instance_uid,
                    "center_mm": None,
                    "diameter_mm": None,
                    "box_px": list(box),
                },
                "evidence": body.no_evidence() if response is None else body.evidence(response, "eye", ["clear"]),
            }
        )
    result = _result(bundle, outcome, [instance], quality, found, warned, side, [])
    return Report(result, bundle, (instance,), (header,), responses, {}, **more)


@pytest.fixture(scope="session")
def make_report(bundles: dict[str, Bundle]) -> Callable[..., Report]:
    """Builds a report: source kind (ct, op, vl, sc), outcome, header changes (None removes), and what is named below."""

    def build(
        kind: str,
        outcome: str,
        header: dict[str, Any] | None = None,
        *,
        sparse: bool = False,
        maps: bool = True,
        origin: str = "request",
        side: str = "R",
        grade: int = 2,
        warned: tuple[str, ...] = (),
        configuration: str = "{}",
        predecessor: Predecessor | None = None,
    ) -> Report:
        changes = {**({} if sparse else COMPLETE), **(header or {})}
        more = {"configuration": configuration, "predecessor": predecessor}
        if kind == "ct":
            return ct_report(bundles["sisc_lung"], outcome, changes, maps, origin, warned, **more)
        return eye_report(bundles["clear_dr"], kind, outcome, changes, maps, side, grade, warned, **more)

    return build


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn(f"{name} is not installed; THIS TEST DID NOT RUN", stacklevel=1)
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def errors(tmp_path: Path) -> Callable[[ResultObject], list[str]]:
    """What dciodvfy calls an error in an object."""
    tool = _tool("dciodvfy")

    def judge(made: ResultObject) -> list[str]:
        path = tmp_path / "object.dcm"
        path.write_bytes(made.data)
        done = subprocess.run([tool, "-new", str(path)], capture_output=True, check=False)
        lines = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
        assert lines, "dciodvfy said nothing"
        return [line for line in lines if line.startswith(("Error", "Abort"))]

    return judge


@pytest.fixture
def dump(tmp_path: Path) -> Callable[[ResultObject], str]:
    """A document as dsrdump prints it; fails where it cannot."""
    tool = _tool("dsrdump")

    def read(made: ResultObject) -> str:
        path = tmp_path / "document.dcm"
        path.write_bytes(made.data)
        done = subprocess.run([tool, str(path)], capture_output=True, check=False)
        printed = (done.stdout + done.stderr).decode("utf-8", "replace")
        assert done.returncode == 0, printed
        told = [line for line in printed.splitlines() if line.startswith(("E:", "W:"))]
        assert all(line.startswith(NOT_CHECKED) for line in told), printed
        return printed

    return read
