"""How far the service's input of the lung model is from the one it learnt, and what that does to its answers.

The model learnt from 8-bit slices without Hounsfield units and answers for a scanner's. Here one real CT goes both ways, at the
same places, and the two answers are compared: `measure`, written to ``docs/results/lung_shift.json`` by `write`.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jpeg_ls
import numpy as np
import pydicom
import SimpleITK
import torch
from torch.nn import functional as F

from models.bundle import digest
from models.preprocessing import ALL, HU_RANGE, Range, min_max, nodule_window, tissue_level
from training.bundles import Model, today
from training.data import ROOT, shared_data
from training.lung.data import CENTRE, FINE_MM, HALF_DEPTH_MM, PREPROCESSING, inputs, read_stack, windows

RESULT = ROOT / "docs" / "results" / "lung_shift.json"
NODULE_MM = (-50.8, -148.3, 57.5)
"""The ground-glass adenocarcinoma of `read_ct`'s patient: x, y, z."""
PLACES = 60
SCALED_PX, CROP_PX = 128, 104
"""Sides of the region that the LIDC set scales as one, and of what it keeps of it."""
PITCH_MM, SEARCH_MM, EVERY_MM = 24.0, 8.0, 7.0
"""Places in the lung: distance in the plane, how far each moves to the densest spot, distance of planes."""
AIR_HU, LUNG_MM2 = -500.0, 3000.0
PADDING_HU, METAL_HU, BLUR_PX2 = -2000.0, 20000.0, 0.8
"""What is put into windows to see what it does; the variance of the scanner's blur at the rim of metal."""
PADDING_AWAY_MM = (20.0, 12.0)
METAL = ((4.0, 15.0, 3071.0), (4.0, 15.0, 20000.0), (1.0, 10.0, 3071.0))
"""Radius and distance from the centre, mm; where the scale ends, HU."""

Place = tuple[int, int, int]
"""Slice, row and column."""


@dataclass(frozen=True)
class Ct:
    """A CT series.

    Attributes
    ----------
    hounsfield : ndarray, int16, shape (S, H, W)
    spacing : (row spacing, column spacing), mm
    z : ndarray, shape (S,), ascending
    origin : (x, y) of the first pixel, mm
    """

    hounsfield: np.ndarray
    spacing: tuple[float, float]
    z: np.ndarray
    origin: tuple[float, float]

    def around(self, index: int) -> list[int]:
        """Slices that the service answers a nodule from whose centre lies in slice `index`."""
        return [int(k) for k in np.flatnonzero(np.abs(self.z - self.z[index]) <= HALF_DEPTH_MM + 0.01)]


def read_ct(archive: Path) -> Ct:
    """Read a zipped axial series whose slices have the same geometry."""
    with zipfile.ZipFile(archive) as files:
        slices = [pydicom.dcmread(io.BytesIO(files.read(name))) for name in files.namelist() if name.endswith(".dcm")]
    slices.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    first = slices[0]
    row, column = (float(value) for value in first.PixelSpacing)
    x, y = (float(value) for value in first.ImagePositionPatient[:2])
    pixels = [ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in slices]
    z = np.array([float(ds.ImagePositionPatient[2]) for ds in slices])
    return Ct(np.stack(pixels).astype(np.int16), (row, column), z, (x, y))


def places(ct: Ct, count: int) -> list[Place]:
    """The known nodule, and nodule-sized dense spots spread over the lung (vessels, mostly), `count` in all."""
    index = int(np.abs(ct.z - NODULE_MM[2]).argmin())
    column, row = (round((NODULE_MM[k] - ct.origin[k]) / ct.spacing[1 - k]) for k in (0, 1))
    found: list[Place] = []
    step = max(1, round(EVERY_MM / float(np.median(np.diff(ct.z)))))
    for k in range(step, len(ct.z) - step, step):
        found += [(k, *spot) for spot in _dense_spots(ct.hounsfield[k].astype(np.float32), ct.spacing)]
    chosen = np.linspace(0, len(found) - 1, min(count - 1, len(found))).round().astype(int)
    return [(index, row, column), *(found[k] for k in chosen)]


def _dense_spots(image: np.ndarray, spacing: tuple[float, float]) -> list[tuple[int, int]]:
    """Densest spots near the points of a raster in the lung of one slice, (row, column)."""
    air = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray((image < AIR_HU).astype(np.uint8)))
    labels = SimpleITK.GetArrayFromImage(air)
    area = np.bincount(labels.ravel()) * spacing[0] * spacing[1]
    lung = area >= LUNG_MM2
    lung[np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))] = False
    lung[0] = False
    field = SimpleITK.BinaryFillhole(SimpleITK.GetImageFromArray(lung[labels].astype(np.uint8)))
    inside = SimpleITK.GetArrayFromImage(field) > 0
    smooth = SimpleITK.GetArrayFromImage(SimpleITK.DiscreteGaussian(SimpleITK.GetImageFromArray(image), [4.0] * 2))
    pitch, reach, edge = round(PITCH_MM / spacing[0]), round(SEARCH_MM / spacing[0]), SCALED_PX // 2
    spots = set()
    for row in range(edge + reach, image.shape[0] - edge - reach, pitch):
        for column in range(edge + reach, image.shape[1] - edge - reach, pitch):
            near = (slice(row - reach, row + reach + 1), slice(column - reach, column + reach + 1))
            if inside[row, column]:
                at = np.unravel_index(np.where(inside[near], smooth[near], -np.inf).argmax(), smooth[near].shape)
                spots.add((row - reach + int(at[0]), column - reach + int(at[1])))
    return sorted(spots)


def service_window(
    image: np.ndarray, row: float, column: float, spacing: tuple[float, float], valid: Range = HU_RANGE
) -> np.ndarray:
    """The model's input as the service cuts it out of Hounsfield units, float32, shape (72, 72)."""
    return nodule_window(image.astype(np.float32), (column, row), spacing, valid=valid, **PREPROCESSING)[0]  # type: ignore[arg-type]


def training_windows(image: np.ndarray, row: int, column: int, spacing: float) -> dict[str, np.ndarray]:
    """The model's input by the way of the LIDC set (data.md), after each of its steps: {step: float32, shape (72, 72)}.

    The crops have an even side, so their middle is the corner before pixel (row, column).
    """
    half, margin = SCALED_PX // 2, (SCALED_PX - CROP_PX) // 2
    scaled = np.round(255 * min_max(image[row - half : row + half, column - half : column + half])).astype(np.uint8)
    coded = np.asarray(jpeg_ls.decode(jpeg_ls.encode(scaled, 1)))
    exact, near = (crop[None, margin:-margin, margin:-margin] for crop in (scaled, coded))
    return {
        "8 bits over 128 x 128 px": inputs(exact, spacing)[0].astype(np.float32),
        "and JPEG-LS with one grey level of error": inputs(near, spacing)[0].astype(np.float32),
        "and the fine windows that training turns and shifts": at_rest(windows(near, spacing)[0]),
    }


def at_rest(fine: np.ndarray) -> np.ndarray:
    """The network's input that `training.lung.train.augment` makes of a fine window when it changes nothing."""
    size = int(PREPROCESSING["size_px"])
    zoom = size * float(PREPROCESSING["scale_mm"]) / (len(fine) * FINE_MM)
    grid = F.affine_grid(torch.tensor([[[zoom, 0.0, 0.0], [0.0, zoom, 0.0]]]), [1, 1, size, size], align_corners=False)
    x = torch.from_numpy(fine.astype(np.float32) / 255)[None, None]
    return np.asarray(F.grid_sample(x, grid, padding_mode="border", align_corners=False)[0, 0])


@dataclass(frozen=True)
class Answers:
    """What the model says about windows of places: p(malignant), shape (n,), and its maps, shape (n, 2, 72, 72)."""

    p: np.ndarray
    maps: np.ndarray


def ask(model: Model, seen: Sequence[np.ndarray]) -> Answers:
    """Run the model on windows."""
    p, maps = model.run(np.stack(seen)[:, None], "probabilities", "response_maps")
    return Answers(p[:, 1].astype(float), maps)


def differences(values: np.ndarray) -> dict[str, float]:
    """Mean, 95th percentile and maximum of absolute differences, and the mean with its sign."""
    size = np.abs(values)
    figures = {"mean": size.mean(), "p95": np.percentile(size, 95), "max": size.max(), "signed_mean": values.mean()}
    return {name: round(float(value), 5) for name, value in figures.items()}


def correlations(one: np.ndarray, two: np.ndarray) -> dict[str, float]:
    """Pearson correlation of each window's maps, both classes together, over the windows where both have any response."""
    pairs = [(a.ravel(), b.ravel()) for a, b in zip(one, two, strict=True) if a.std() > 0 and b.std() > 0]
    if not pairs:
        return {"n": 0}
    found = np.array([np.corrcoef(a, b)[0, 1] for a, b in pairs])
    figures = {"mean": found.mean(), "p05": np.percentile(found, 5), "min": found.min()}
    return {**{name: round(float(value), 5) for name, value in figures.items()}, "n": len(found)}


def measure(model_path: Path) -> dict[str, Any]:
    """Compare both ways at `PLACES` places of the shared real CT, and what padding and metal do there.

    Parameters
    ----------
    model_path : Path
        ``model.onnx`` of a lung bundle.

    Returns
    -------
    dict
        "steps": the difference of input, p(malignant) by slice and by place, and of the maps, after each step of the training
        set's way against the service's window of the same place. "padding" and "metal": p(malignant) against the untouched
        window, when the values are taken in, replaced by the darkest of the window, or taken out (the step ``hu_range``).
    """
    ct = read_ct(shared_data() / "dicom" / "ct_lungfcp_0001.zip")
    model, spots = Model(model_path, threads=1), places(ct, PLACES)
    spacing, served, learnt, owner = ct.spacing[0], [], [], []
    for number, (index, row, column) in enumerate(spots):
        for k in ct.around(index):
            served.append(service_window(ct.hounsfield[k], row - 0.5, column - 0.5, ct.spacing))
            learnt.append(training_windows(ct.hounsfield[k], row, column, spacing))
            owner.append(number)
    own, slices = ask(model, served), np.bincount(owner)
    steps = {}
    for step in learnt[0]:
        seen = [found[step] for found in learnt]
        other = ask(model, seen)
        steps[step] = {
            "input": differences(np.stack(seen) - np.stack(served)),
            "p_malignant_by_slice": differences(other.p - own.p),
            "p_malignant_by_place": differences(np.bincount(owner, other.p - own.p) / slices),
            "map_correlation": correlations(own.maps, other.maps),
        }
    return {
        "model_sha256": digest(model_path),
        "ct": "ct_lungfcp_0001 (Lung-Fused-CT-Pathology): the known nodule and dense spots of the lung",
        "places": len(spots),
        "slices": len(served),
        "date": today(),
        "steps": steps,
        "padding": [
            {"away_mm": away, **_foreign(model, ct, spots, partial(padded, away_mm=away))} for away in PADDING_AWAY_MM
        ],
        "metal": [
            {
                "radius_mm": radius,
                "away_mm": away,
                "highest_hu": highest,
                **_foreign(model, ct, spots, partial(with_metal, radius_mm=radius, away_mm=away, highest_hu=highest)),
            }
            for radius, away, highest in METAL
        ],
    }


def _foreign(
    model: Model, ct: Ct, spots: Sequence[Place], change: Callable[[np.ndarray, tuple[float, float]], np.ndarray]
) -> dict[str, Any]:
    """p(malignant) of the places' own slices with something foreign in the window, against the untouched ones."""
    half = SCALED_PX // 2 + 1
    middle = (half, half)
    cases: dict[str, list[np.ndarray]] = {"untouched": [], "taken_in": [], "darkest": [], "taken_out": []}
    for index, row, column in spots:
        image = ct.hounsfield[index, row - half : row + half, column - half : column + half].astype(np.float32)
        changed = change(image, ct.spacing)
        present = (changed >= HU_RANGE[0]) & (changed <= HU_RANGE[1])
        cases["untouched"].append(service_window(image, *middle, ct.spacing))
        cases["taken_in"].append(service_window(changed, *middle, ct.spacing, ALL))
        cases["darkest"].append(
            service_window(np.where(present, changed, changed[present].min()), *middle, ct.spacing, ALL)
        )
        cases["taken_out"].append(service_window(changed, *middle, ct.spacing))
    p = {name: model.run(np.stack(seen)[:, None], "probabilities")[0][:, 1] for name, seen in cases.items()}
    return {name: differences(p[name] - p["untouched"]) for name in ("taken_in", "darkest", "taken_out")}


def padded(image: np.ndarray, spacing: tuple[float, float], *, away_mm: float) -> np.ndarray:
    """A square image with a scanner's padding from `away_mm` beside its middle on."""
    changed = image.copy()
    changed[:, image.shape[1] // 2 + round(away_mm / spacing[1]) :] = PADDING_HU
    return changed


def with_metal(
    image: np.ndarray, spacing: tuple[float, float], *, radius_mm: float, away_mm: float, highest_hu: float
) -> np.ndarray:
    """A square image with a disk of metal beside its middle, blurred as a scanner does, on a scale that ends at `highest_hu`."""
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    row, column = (side // 2 for side in image.shape)
    disk = np.hypot((y - row) * spacing[0], (x - column) * spacing[1] - away_mm) <= radius_mm
    blurred = SimpleITK.DiscreteGaussian(SimpleITK.GetImageFromArray(disk.astype(np.float32)), [BLUR_PX2] * 2)
    share = SimpleITK.GetArrayFromImage(blurred)
    return np.minimum(image + (METAL_HU - image) * share, highest_hu).astype(np.float32)


def survey() -> dict[str, Any]:
    """What the shared LIDC slices hold that the service does not cut: padding, and nodules beside the middle.

    Returns
    -------
    dict
        "slices", "slices_with_padding" (in the crop or beside it), "patients_with_padding"; "off_centre_px": median, over the
        nodules, of the way (column, row) from where the windows are centred to the centroid of the readers' 50 % consensus, in
        pixels of the source.
    """
    data = shared_data() / "lidc_nodules"
    with (data / "nodules.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["match"] != "none"]
    padded, patients, offsets, slices = 0, set(), [], 0
    with zipfile.ZipFile(data / "slices.zip") as archive:
        for row in rows:
            count = int(row["n_slices"])
            found = sum(tissue_level(image) > 0 for image in read_stack(archive, row["file"], count))
            padded, slices = padded + found, slices + count
            patients |= {row["patient_id"]} if found else set()
            bits = read_stack(archive, f"{row['file']}.readers", count)
            readers = [drawn for k in range(8) if (drawn := (bits >> k) & 1).any()]
            _, y, x = np.nonzero(2 * np.sum(readers, axis=0) >= len(readers))
            if len(x):
                offsets.append((x.mean() - CENTRE[0], y.mean() - CENTRE[1]))
    return {
        "slices": slices,
        "slices_with_padding": padded,
        "patients_with_padding": len(patients),
        "off_centre_px": [round(float(value), 2) for value in np.median(offsets, axis=0)],
    }


def write(model_path: Path, path: Path = RESULT) -> dict[str, Any]:
    """Write what `measure` and `survey` find."""
    found = {**measure(model_path), "training_set": survey()}
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found
