"""Synthetic inputs for people who have nothing to send: a chest CT series with two nodules, and a fundus photograph.

Both are drawn from a seed, say PHANTOM in what identifies them, and show no person. They look right enough for the
input checks and for learning the interface; what a model answers for them means nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

SIZE_PX, SPACING_MM, SLICES, SLICE_MM = 512, 0.7, 60, 1.25
ORIGIN_MM = (-0.5 * (SIZE_PX - 1) * SPACING_MM, -0.5 * (SIZE_PX - 1) * SPACING_MM, -150.0)
"""Image Position (Patient) of the lowest slice: x = y = 0 is the middle of the image."""
STEP_MM = np.array([SLICE_MM, SPACING_MM, SPACING_MM])
"""Between voxels along z, y, x."""
AIR, LUNG, FAT, SOFT, BLOOD, BONE, CORTEX = -1000, -860, -100, 45, 40, 180, 650
"""Hounsfield units."""
WARNING = "Synthetic phantom made by a computer program. Not a patient."


@dataclass(frozen=True)
class Nodule:
    """A nodule planted in the phantom; `center_mm` in patient coordinates (PS3.3 C.7.6.2)."""

    id: str
    kind: str
    center_mm: tuple[float, float, float]
    diameter_mm: float


def write_ct(folder: Path, *, seed: int = 0) -> dict[str, Any]:
    """Write a synthetic chest CT series: 60 axial slices of 512 x 512 px of 0.7 mm, 1.25 mm apart.

    Explicit VR little endian. Patient's Name and ID say PHANTOM; Quality Control Image (0028,0300) and Quality Control
    Subject (0010,0200) are YES. Image Type is ORIGINAL, PRIMARY, AXIAL: the pixels are derived from no other image
    (PS3.3 C.7.6.1.1.2). The same seed gives the same bytes and UIDs.

    Parameters
    ----------
    folder : Path
        Made when missing.
    seed : int
        Moves the nodules, and draws vessels, spicules, noise and UIDs.

    Returns
    -------
    dict
        ``files`` (paths, from the lowest slice up) and ``nodules``: {"id", "kind": "spiculated" | "smooth",
        "center_mm", "diameter_mm", "sop_instance_uid", "center_px"}, the last two naming the nearest slice and
        [column, row] there.
    """
    rng = np.random.default_rng(seed)
    nodules = (
        Nodule("n1", "spiculated", _placed(rng, -82.0, -18.0, 46.0), 16.0),
        Nodule("n2", "smooth", _placed(rng, 92.0, 22.0, 22.0), 10.0),
    )
    volume = _chest(rng)
    for nodule in nodules:
        _plant(volume, nodule, rng)
    stored = _scanned(volume, rng)
    folder.mkdir(parents=True, exist_ok=True)
    uids = {name: _uid("ct", seed, name) for name in ("study", "series", "frame of reference")}
    files = []
    for k in range(SLICES):
        path = folder / f"phantom_ct_{k + 1:03d}.dcm"
        _instance(stored[k], k, seed, uids).save_as(path, enforce_file_format=True)
        files.append(path)
    return {"files": files, "nodules": [_described(nodule, seed) for nodule in nodules]}


def _placed(rng: np.random.Generator, x: float, y: float, above: float) -> tuple[float, float, float]:
    """A point up to 5 mm from the given one; `above` is counted from the lowest slice."""
    dx, dy, dz = (float(v) for v in rng.uniform(-5, 5, 3))
    return (round(x + dx, 2), round(y + dy, 2), round(ORIGIN_MM[2] + above + dz, 2))


def _described(nodule: Nodule, seed: int) -> dict[str, Any]:
    column, row = ((nodule.center_mm[a] - ORIGIN_MM[a]) / SPACING_MM for a in (0, 1))
    nearest = round((nodule.center_mm[2] - ORIGIN_MM[2]) / SLICE_MM)
    return {
        "id": nodule.id,
        "kind": nodule.kind,
        "center_mm": list(nodule.center_mm),
        "diameter_mm": nodule.diameter_mm,
        "sop_instance_uid": _uid("ct", seed, f"instance {nearest}"),
        "center_px": [round(column, 2), round(row, 2)],
    }


def _uid(*parts: object) -> str:
    """A UID of the form 2.25.<UUID> (PS3.5 B.2) that depends on nothing but `parts`."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'pellucid phantom {parts}').int}"


def _cover(distance_mm: np.ndarray) -> np.ndarray:
    """Share of a pixel inside a shape, from the signed distance to its border (negative inside)."""
    return np.clip(0.5 - distance_mm / SPACING_MM, 0, 1)


def _fill(image: np.ndarray, distance_mm: np.ndarray, hounsfield: float | np.ndarray) -> None:
    cover = _cover(distance_mm)
    image += cover * (hounsfield - image)


def _ellipse(x: np.ndarray, y: np.ndarray, a: float, b: float, power: float = 2.0) -> np.ndarray:
    """Roughly the signed distance in mm to a (super)ellipse with half axes `a`, `b`."""
    reach = (np.abs(x / a) ** power + np.abs(y / b) ** power) ** (1 / power)
    return np.asarray((reach - 1) * min(a, b), np.float32)


def _chest(rng: np.random.Generator) -> np.ndarray:
    """Hounsfield units without nodules and noise, float32 (SLICES, SIZE_PX, SIZE_PX)."""
    axis = (np.arange(SIZE_PX, dtype=np.float32) - (SIZE_PX - 1) / 2) * np.float32(SPACING_MM)
    x, y = axis[None], axis[:, None]
    raster = Image.fromarray(rng.normal(size=(64, 64)).astype(np.float32))
    mottle = np.asarray(raster.resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC))
    body, cavity = _ellipse(x, y, 166, 114, 2.4), _ellipse(x, y, 132, 86, 2.3)
    angle = np.arctan2(y / 92, x / 138)
    ribs = np.abs(_ellipse(x, y, 138, 92, 2.3)) - 4
    wall = np.full((SIZE_PX, SIZE_PX), AIR, np.float32)
    _fill(wall, np.abs(y + 0.0006 * x**2 - 124) - 3, -350)  # the table
    _fill(wall, body, SOFT)  # skin
    _fill(wall, body + 2.5, FAT + 8 * mottle)
    _fill(wall, body + 17 - 5 * np.cos(2 * angle), SOFT + 6 * mottle)
    middle = np.abs(x - 4) - (24 + 6 * np.cos(y / 30))
    spine, canal = np.hypot(x, y - 66) - 19, _ellipse(x, y - 92, 11, 9)
    bone = _cover(np.minimum(spine, canal))
    vertebra = np.full_like(wall, CORTEX)
    _fill(vertebra, spine + 1.5, BONE + 35 * mottle)
    _fill(vertebra, canal + 2.5, SOFT)
    pleura, air = np.maximum(cavity, np.maximum(-middle, 6 - spine)), LUNG + 0.45 * y + 22 * mottle
    fat = np.maximum(middle + 6, cavity + 4)
    tubes = np.minimum.reduce(
        [
            np.hypot(x - 22, y - 40) - 12.5,  # descending aorta
            np.hypot(x + 16, y + 22) - 11,  # superior vena cava
            _ellipse(x - 2, y + 20, 20, 13),  # ascending aorta, pulmonary trunk
            _ellipse(x - 10, y - 30, 8, 6),  # oesophagus
        ]
    )
    vessels = np.full((SLICES, SIZE_PX, SIZE_PX), AIR, np.float32)
    for start, end, radius in _tree(rng):
        _tube(vessels, start, end, radius, radius * 0.85, BLOOD)
    for k, image in enumerate(vessels):
        t = k / (SLICES - 1)  # 0 at the lowest slice, 1 at the highest
        heart = _ellipse(x - 22, y + 20, 58 - 34 * t, 50 - 18 * t)
        lungs = np.maximum(pleura, -heart)
        chest = wall.copy()
        gap = 4.6 - 9 * np.abs(np.sin(5.5 * angle + 9 * t * np.sign(x)))  # ribs slope, so they travel between slices
        rib = np.maximum(ribs, gap)
        _fill(chest, rib, CORTEX)
        _fill(chest, rib + 1.6, BONE)
        _fill(chest, lungs, air)
        _fill(chest, fat, FAT + 30 * mottle)
        _fill(chest, np.minimum(heart + 3, tubes), BLOOD)
        if t > 0.55:
            _fill(chest, np.hypot(x, y - 10) - 9, AIR)  # trachea
        elif t > 0.25:
            _fill(chest, np.hypot(np.abs(x) - (10 + 34 * (0.55 - t)), y - 10) - 6.5, AIR)  # main bronchi
        chest += bone * (vertebra - chest)
        np.maximum(image, chest, out=image, where=lungs < 0)
        np.copyto(image, chest, where=lungs >= 0)
    return vessels


def _tree(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """Pulmonary vessels as straight pieces (start, end, radius), mm: seven generations from both hila."""
    for side in (-1, 1):
        count = 12
        start = np.array([side * 34.0, 8.0, ORIGIN_MM[2] + 37]) + rng.normal(0, 6, (count, 3))
        way = np.column_stack([np.full(count, side * 1.0), rng.normal(0, 1.1, count), rng.normal(0, 0.9, count)])
        radius = rng.uniform(2.4, 4.2, count)
        for _ in range(7):
            way /= np.linalg.norm(way, axis=1, keepdims=True)
            end = start + way * (rng.uniform(9, 17, len(way)) * (0.45 + radius / 5))[:, None]
            yield from zip(start, end, radius, strict=True)
            start, way, radius = (np.repeat(values, 2, axis=0) for values in (end, way, radius))
            way = way + rng.normal(0, 0.5, way.shape)
            radius = radius * rng.uniform(0.66, 0.92, len(radius))
            kept = radius > 0.35
            start, way, radius = start[kept], way[kept], radius[kept]


def _offsets(low: np.ndarray, high: np.ndarray, origin_mm: np.ndarray) -> list[np.ndarray]:
    """Distances in mm along z, y and x of the voxels low..high from a point (z, y, x); open grids, float32."""
    grids = np.ogrid[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    return [(grid * step - at).astype(np.float32) for grid, step, at in zip(grids, STEP_MM, origin_mm, strict=True)]


def _tube(volume: np.ndarray, start: np.ndarray, end: np.ndarray, first: float, last: float, hounsfield: float) -> None:
    """Draw a round tapering stick with end radii `first` and `last`, mm; what is denser already stays."""
    ends = (np.stack([start, end]) - ORIGIN_MM)[:, ::-1]  # z, y, x
    low = np.floor((ends.min(axis=0) - first - 1) / STEP_MM).astype(int).clip(0, volume.shape)
    high = (np.ceil((ends.max(axis=0) + first + 1) / STEP_MM).astype(int) + 1).clip(0, volume.shape)
    if (high <= low).any():
        return
    z, y, x = _offsets(low, high, ends[0])
    line = (ends[1] - ends[0]).astype(np.float32)
    along = np.clip((z * line[0] + y * line[1] + x * line[2]) / (line @ line), 0, 1)
    distance = np.sqrt((z - along * line[0]) ** 2 + (y - along * line[1]) ** 2 + (x - along * line[2]) ** 2)
    cover = _cover(distance - (first + (last - first) * along)) * min(1.0, 2 * first / SLICE_MM)
    part = volume[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    np.maximum(part, AIR + cover * (hounsfield - AIR), out=part)


def _plant(volume: np.ndarray, nodule: Nodule, rng: np.random.Generator) -> None:
    """Draw a nodule into the lung. Spiculated: lobed, with fine rays. Smooth: round, with a calcified core."""
    center, radius = np.array(nodule.center_mm), nodule.diameter_mm / 2
    middle = (center - ORIGIN_MM)[::-1]  # z, y, x
    low, high = (np.rint((middle + sign * 1.6 * radius) / STEP_MM).astype(int) for sign in (-1, 1))
    away = np.stack(np.broadcast_arrays(*_offsets(low, high, middle)), axis=-1)
    distance = np.linalg.norm(away, axis=-1)
    part = volume[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    if nodule.kind == "smooth":
        _fill(part, distance - radius, 60)
        _fill(part, distance - 0.4 * radius, 320)
        return
    outward = away / np.maximum(distance, 1e-6)[..., None]
    lobes = np.cos(outward @ rng.normal(0, 2.2, (3, 6)) + rng.uniform(0, 6, 6)).sum(axis=-1)
    _fill(part, distance - radius * (0.96 + 0.025 * lobes), 35)
    for _ in range(60):
        ray = rng.normal(size=3)
        ray /= np.linalg.norm(ray)
        _tube(volume, center + 0.7 * radius * ray, center + rng.uniform(1.3, 2.1) * radius * ray, 0.95, 0.25, 0)


def _scanned(volume: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a scanner would store: blurred in the plane, with correlated noise. uint16, HU + 1024."""
    noise = rng.standard_normal(volume.shape, dtype=np.float32)
    noise *= 34
    noise += volume
    for axis in (1, 2):  # (1 2 1) / 4 along rows and columns
        noise = 0.5 * noise + 0.25 * (np.roll(noise, 1, axis) + np.roll(noise, -1, axis))
    return np.clip(np.rint(noise + 1024), 0, 4095).astype(np.uint16)


def _instance(pixels: np.ndarray, k: int, seed: int, uids: dict[str, str]) -> FileDataset:
    """One slice as CT Image Storage (PS3.3 A.3): every Type 1 and Type 2 attribute of its modules."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(_uid("ct", seed, f"instance {k}"))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    z = ORIGIN_MM[2] + k * SLICE_MM
    values: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "PatientName": "PHANTOM^Chest",
        "PatientID": f"PHANTOM-CT-{seed}",
        "PatientBirthDate": "",
        "PatientSex": "O",
        "QualityControlSubject": "YES",
        "PatientComments": WARNING,
        "StudyInstanceUID": uids["study"],
        "StudyDate": "20260101",
        "StudyTime": "120000",
        "StudyID": "PHANTOM",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "StudyDescription": "PHANTOM chest CT",
        "Modality": "CT",
        "SeriesInstanceUID": uids["series"],
        "SeriesNumber": 1,
        "SeriesDescription": "PHANTOM axial 1.25 mm",
        "BodyPartExamined": "CHEST",
        "PatientPosition": "HFS",
        "FrameOfReferenceUID": uids["frame of reference"],
        "PositionReferenceIndicator": "",
        "Manufacturer": "Pellucid phantom generator",
        "ManufacturerModelName": "Synthetic chest",
        "SoftwareVersions": "1",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "InstanceNumber": k + 1,
        "AcquisitionNumber": 1,
        "AcquisitionDate": "20260101",
        "AcquisitionTime": "120000",
        "ContentDate": "20260101",
        "ContentTime": "120000",
        "ImageComments": WARNING,
        "QualityControlImage": "YES",
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "00",
        "PixelSpacing": [SPACING_MM, SPACING_MM],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [round(ORIGIN_MM[0], 3), round(ORIGIN_MM[1], 3), round(z, 3)],
        "SliceThickness": SLICE_MM,
        "SliceLocation": round(z, 3),
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": SIZE_PX,
        "Columns": SIZE_PX,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleIntercept": -1024,
        "RescaleSlope": 1,
        "RescaleType": "HU",
        "KVP": 120,
        "ConvolutionKernel": "PHANTOM",
        "WindowCenter": [-600, 40],
        "WindowWidth": [1500, 400],
        "WindowCenterWidthExplanation": ["LUNG", "MEDIASTINUM"],
    }
    for keyword, value in values.items():
        setattr(image, keyword, value)
    image.PixelData = pixels.astype("<u2").tobytes()
    return image


def write_fundus(path: Path, *, seed: int = 0) -> dict[str, Any]:
    """Write a synthetic photograph of a right eye with haemorrhages and exudates: JPEG, 1600 x 1200 px.

    "PHANTOM" stands in the dark corner and in the JPEG comment. The same seed gives the same picture.

    Parameters
    ----------
    path : Path
        Ends in .jpg or .jpeg.
    seed : int

    Returns
    -------
    dict
        ``laterality`` ("R"), ``field`` (x, y, radius), ``disc_px`` and ``fovea_px`` (x, y), all in px.
    """
    rng = np.random.default_rng(seed)
    width, height = 1600, 1200
    field, disc, fovea = (800.0, 600.0, 575.0), (1165.0, 575.0), (790.0, 625.0)
    y, x = np.ogrid[:height, :width]
    away = np.hypot(x - field[0], y - field[1]).astype(np.float32) / field[2]
    from_disc = np.hypot((x - disc[0]) / 0.92, y - disc[1]).astype(np.float32)
    from_fovea = np.hypot(x - fovea[0], y - fovea[1]).astype(np.float32)

    def cloud(cells: int) -> np.ndarray:
        grid = rng.normal(size=(cells * 3, cells * 4)).astype(np.float32)
        return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))

    tone = 1.08 - 0.28 * away**2 + 0.05 * cloud(2) + 0.025 * cloud(12) + 0.02 * cloud(60)
    tone = tone - 0.3 * np.exp(-((from_fovea / 110) ** 2)) + 0.1 * np.exp(-((from_disc / 230) ** 2))
    image = tone[..., None] * np.array([196, 92, 40], np.float32)

    def paint(mask: np.ndarray | Image.Image, color: tuple[int, int, int], opacity: float) -> None:
        share = np.asarray(mask, np.float32)[..., None] / 255 * opacity
        np.add(image, share * (np.array(color, np.float32) - image), out=image)

    paint(127.5 - 127.5 * np.tanh((from_disc - 74) / 8), (246, 196, 128), 0.85)
    paint(127.5 - 127.5 * np.tanh((from_disc - 32) / 18), (255, 232, 188), 0.7)
    exudates, bleedings = _lesions(rng, (width, height), fovea)
    paint(exudates, (252, 222, 126), 0.85)
    veins, arteries = (_retinal_vessels(rng, (width, height), disc, fovea, size) for size in (17.0, 11.0))
    paint(veins, (118, 28, 18), 0.78)
    paint(arteries, (156, 44, 26), 0.66)
    paint(bleedings, (104, 16, 12), 0.85)
    image += rng.normal(0, 2.5, image.shape)
    image *= np.clip((1 - away) * field[2] / 3, 0, 1)[..., None]
    picture = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    ImageDraw.Draw(picture).text(
        (24, height - 56), "PHANTOM", fill=(150, 150, 150), font=ImageFont.load_default(size=34)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "JPEG", quality=92, comment=f"PHANTOM. {WARNING}")
    return {"laterality": "R", "field": list(field), "disc_px": list(disc), "fovea_px": list(fovea)}


def _retinal_vessels(
    rng: np.random.Generator, size: tuple[int, int], disc: tuple[float, float], fovea: tuple[float, float], width: float
) -> Image.Image:
    """Mask of one branching tree from the disc: arcades round the fovea and nasal trunks; `width` px."""
    mask = Image.new("L", size)
    pen = ImageDraw.Draw(mask)
    growing = [
        (disc, heading + rng.normal(0, 0.12), bend, share * width)
        for heading, bend, share in ((-1.85, -0.003, 1.0), (1.85, 0.003, 1.0), (-0.7, 0.002, 0.7), (0.7, -0.002, 0.7))
    ]
    while growing:
        (x, y), heading, bend, thick = growing.pop()
        side = 1
        for step in range(130):
            wiggle = rng.normal(0, 0.04)
            x2, y2 = x + 9 * np.cos(heading), y + 9 * np.sin(heading)
            near = np.hypot(x2 - fovea[0], y2 - fovea[1]) < 75  # no vessels in the fovea
            if thick < 1.2 or near or not (0 <= x2 < size[0] and 0 <= y2 < size[1]):
                break
            pen.line((x, y, x2, y2), fill=255, width=max(1, round(thick)))
            pen.ellipse((x2 - thick / 2, y2 - thick / 2, x2 + thick / 2, y2 + thick / 2), fill=255)
            x, y, heading, thick = x2, y2, heading + 9 * bend + wiggle, thick * 0.986
            if step % 9 == 5 and rng.random() < 0.75:
                growing.append(
                    ((x, y), heading + side * rng.uniform(0.5, 0.95), -0.3 * bend, thick * rng.uniform(0.45, 0.7))
                )
                side = -side
    return mask.filter(ImageFilter.GaussianBlur(1.3))


def _lesions(
    rng: np.random.Generator, size: tuple[int, int], fovea: tuple[float, float]
) -> tuple[Image.Image, Image.Image]:
    """Masks of hard exudates (clusters round the macula) and of haemorrhages and microaneurysms (scattered)."""
    masks = (Image.new("L", size), Image.new("L", size))
    bright, dark = (ImageDraw.Draw(mask) for mask in masks)

    def blot(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float) -> None:
        turn = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        reach = radius * (1 + 0.25 * rng.normal(size=14))
        pen.polygon(
            [(float(a), float(b)) for a, b in zip(x + reach * np.cos(turn), y + reach * np.sin(turn), strict=True)],
            fill=255,
        )

    for angle, distance in zip(rng.uniform(0, 6.28, 4), rng.uniform(150, 260, 4), strict=True):
        for x, y in rng.normal(0, 30, (16, 2)):
            blot(
                bright,
                fovea[0] + distance * np.cos(angle) + x,
                fovea[1] + distance * np.sin(angle) + y,
                rng.uniform(2.5, 8),
            )
    for radius in (*rng.uniform(2.5, 4, 40), *rng.uniform(7, 20, 16)):
        angle, distance = rng.uniform(0, 6.28), rng.uniform(110, 480)
        blot(dark, fovea[0] + distance * np.cos(angle), fovea[1] + distance * np.sin(angle), radius)
    first, second = (mask.filter(ImageFilter.GaussianBlur(1.4)) for mask in masks)
    return first, second
