"""IDRiD's photographs with drawn lesions, on the grid of the network's input, and where the shipped model's maps lie on them."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter  # type: ignore[import-untyped]

from models.preprocessing import Box, crop_square, fundus_field, fundus_square
from training.bundles import Model
from training.data import shared_data
from training.response_maps import evidence as ev
from training.retina.data import LESIONS, PREPROCESSING, answered, photographs

KINDS = (*LESIONS, "OD")
"""Microaneurysms, haemorrhages, hard exudates, soft exudates, and the optic disc."""
TOLERANCE_PX = 8
"""Of the pointing game, in pixels of the network's input: a sixtieth of the field."""
PIXELS = "IDRiD (Porwal et al. 2018, CC BY 4.0, doi:10.21227/H25W98)"


@dataclass(frozen=True)
class Drawn:
    """A photograph as the network sees it, and what the readers drew on it; S is the side of the network's input."""

    name: str
    grade: int
    """0-4; -1 where the photograph is not one of the graded ones."""
    square: np.ndarray
    """The photograph cropped to its field, uint8, shape (S, S, 3)."""
    image: np.ndarray
    """The network's input, float32, shape (3, S, S)."""
    masks: np.ndarray
    """Bool, shape (5, S, S), in the order of `KINDS`."""

    @property
    def lesions(self) -> np.ndarray:
        """Any lesion: bool, shape (S, S)."""
        return np.asarray(self.masks[: len(LESIONS)].any(0))

    @property
    def near(self) -> np.ndarray:
        """Within `TOLERANCE_PX` of a lesion: bool, shape (S, S)."""
        return grown(self.lesions, TOLERANCE_PX)

    @property
    def lit(self) -> np.ndarray:
        """The field that the network sees: bool, shape (S, S)."""
        return np.asarray((self.image != 0).any(0))

    def null(self, region: np.ndarray) -> float:
        """A region's share of the lit field."""
        return float(region[self.lit].mean())


def names(data: Path, split: str) -> list[str]:
    """Photographs of a split (train, test) in ``idrid/lesions.zip``."""
    with (data / "idrid/lesions.csv").open(encoding="utf-8") as stream:
        return [row["file"] for row in csv.DictReader(stream) if row["split"] == split]


def left_out(data: Path, folds: Sequence[Sequence[int]]) -> list[list[str]]:
    """Of networks that leave out these folds, the lesion training photographs that each has not seen, by name."""
    drawn = [photograph for photograph in photographs(data) if photograph.source == "idrid_lesions"]
    return [[photograph.member for photograph in drawn if photograph.fold in own] for own in folds]


def on_grid(mask: np.ndarray, box: Box, size: int) -> np.ndarray:
    """A mask of the whole photograph on the grid of the network's input, as `training.retina.data.lesion_labels` has it.

    A pixel belongs to it from a sixth on, so that the smallest lesions, which are smaller than a pixel there, are not lost.
    """
    return np.asarray(crop_square(np.repeat(mask[:, :, None] * np.uint8(255), 3, 2), box, size)[:, :, 0] > 40)


def read(data: Path, name: str) -> Drawn:
    """One photograph of ``idrid/lesions.zip`` with its masks and, where it has a twin among the graded ones, its grade."""
    size = int(PREPROCESSING["size_px"])
    with zipfile.ZipFile(data / "idrid/lesions.zip") as archive:
        photograph = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
        field = fundus_field(photograph)
        assert field is not None
        masks = np.zeros((len(KINDS), size, size), bool)
        for k, kind in enumerate(KINDS):
            member = name.replace(".jpg", f"_{kind}.png")
            if member in archive.namelist():
                drawn = np.asarray(Image.open(io.BytesIO(archive.read(member))).convert("L")) > 0
                masks[k] = on_grid(drawn, field.box, size)
    with (data / "idrid/lesions_to_grading.csv").open(encoding="utf-8") as stream:
        twins = {row["seg_image"]: row["retinopathy_grade"] for row in csv.DictReader(stream)}
    square = crop_square(photograph, field.box, size)
    image = fundus_square(photograph, field, **PREPROCESSING)  # type: ignore[arg-type]
    return Drawn(name, int(twins.get(name.split("/")[1]) or -1), square, image, masks)


def grown(region: np.ndarray, distance_px: float) -> np.ndarray:
    """A region and all that is at most `distance_px` away from it; nothing stays nothing."""
    return np.asarray(distance_transform_edt(~region) <= distance_px) if region.any() else region.copy()


def filled(image: np.ndarray, region: np.ndarray, sd_px: float = 16.0) -> np.ndarray:
    """The network's input with a region replaced by the mean of what surrounds it, weighted by a Gaussian.

    Parameters
    ----------
    image : ndarray, float32, shape (3, S, S)
    region : ndarray, bool, shape (S, S)
    sd_px : float
        Of the Gaussian. Only lit pixels outside the region count.
    """
    lit = (image != 0).any(0)
    weight = (lit & ~region).astype(np.float64)
    share = np.maximum(gaussian_filter(weight, sd_px), 1e-9)
    around = np.stack([gaussian_filter(channel * weight, sd_px) / share for channel in image.astype(np.float64)])
    return np.where(region & lit, around, image).astype(np.float32)


def evidence(model: Model) -> list[dict[str, Any]]:
    """The bundle's own numbers: do the maps of the graded class lie on lesions? IDRiD's lesion test split, never trained on.

    What no photograph allows to measure is left out.
    """
    data = shared_data()
    columns: dict[str, list[float]] = {key: [] for key in ("share", "null", "hit", "near", "disc", "disc_null")}
    correlations = []
    for name in names(data, "test"):
        drawn = read(data, name)
        p, maps = model.run(drawn.image[None], "probabilities", "response_maps")
        correlations.append(ev.class_correlation(maps[0]))
        grade = int(answered(p[0]))
        if grade < 2:
            continue
        response, disc = maps[0, grade], drawn.masks[KINDS.index("OD")]
        columns["share"].append(float(np.nan_to_num(ev.share_inside(response, drawn.lesions))))
        columns["null"].append(drawn.null(drawn.lesions))
        columns["hit"].append(float(bool(ev.pointing(response, drawn.near))))
        columns["near"].append(drawn.null(drawn.near))
        columns["disc"].append(float(np.nan_to_num(ev.share_inside(response, disc))))
        columns["disc_null"].append(drawn.null(disc))
    text = "IDRiD lesions, official test split, photographs graded 2-4, map of the graded class; masks on the 512 px of the input"
    inside = "sum of positive R inside the region / sum of positive R; null: the region's share of the lit field"
    pointing = f"share of images whose argmax R lies at most {TOLERANCE_PX} px of the input away from a lesion"
    rows = (
        ("share of positive response on lesions (MA, HE, EX, SE)", "share", "null", inside),
        ("pointing game, lesions", "hit", "near", pointing),
        ("share of positive response on the optic disc", "disc", "disc_null", inside),
    )
    found = [
        {
            "name": title,
            "value": float(np.mean(columns[key])),
            "null": float(np.mean(columns[null])),
            "n": len(columns[key]),
            "data_set": text,
            "formula": formula,
        }
        for title, key, null, formula in rows
        if columns[key]
    ]
    if known := [value for value in correlations if np.isfinite(value)]:
        of_all = "IDRiD lesions, official test split"
        figure = {"name": "class correlation", "value": float(np.mean(known)), "n": len(known), "data_set": of_all}
        found.append(figure | {"formula": ev.FORMULAS["class_correlation"]})
    return found
