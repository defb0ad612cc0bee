"""The critical region: where the map behind an answer is at its strongest, on the map's grid and on the image's.

A pixel belongs to it when its response reaches a stated share of the largest positive response of the finding. Ours: the thesis
calls the whole map critical; a region that a segmentation can hold needs a border.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.bundle import Bundle
from service.records import ResponseMap

SHARE = 0.5
"""Of the peak, that a pixel has to reach."""
DARK = 0.06 * 255
"""A photograph is unlit where no channel is above this: the limit of `models.preprocessing.fundus_field`."""


@dataclass(frozen=True)
class CriticalRegion:
    """Where a finding's map of one class is at least `share` of its peak.

    Attributes
    ----------
    class_name : str
    share : float
        Of the peak, that every pixel of the region reaches.
    peak : float
        Largest positive response inside the image, over all slices.
    peak_at : (slice, row, column)
        Of the peak, on the map's grid.
    mask : ndarray, bool, shape (S, H, W)
        On the map's grid; at least the peak's pixel is True.
    box_px : ndarray, float64, shape (S, 4)
        (x0, y0, x1, y1) of the map in the source image, borders of pixels at whole numbers (pixel k covers k..k+1).
    sources : tuple of str
        SOP Instance UID of each slice.
    size : (rows, columns)
        Of the source images.
    """

    class_name: str
    share: float
    peak: float
    peak_at: tuple[int, int, int]
    mask: np.ndarray
    box_px: np.ndarray
    sources: tuple[str, ...]
    size: tuple[int, int]

    def to_image(self, at: int) -> np.ndarray:
        """Region of slice `at` on the pixel grid of its source image: bool, shape (rows, columns).

        An image pixel belongs to the region when its centre lies in a map pixel that does. The image pixel that holds the
        centre of the peak always belongs to it, so that no region is lost where the image is coarser than the map.
        """
        image = np.zeros(self.size, bool)
        height, width = self.mask.shape[1:]
        x0, y0, x1, y1 = (float(edge) for edge in self.box_px[at])
        (rows, i), (columns, j) = _cells(self.size[0], y0, y1, height), _cells(self.size[1], x0, x1, width)
        image[np.ix_(rows, columns)] = self.mask[at][np.ix_(i, j)]
        if at == self.peak_at[0]:
            _, row, column = self.peak_at
            y, x = y0 + (row + 0.5) * (y1 - y0) / height, x0 + (column + 0.5) * (x1 - x0) / width
            image[int(np.floor(y)), int(np.floor(x))] = True
        return image

    def areas(self) -> tuple[int, ...]:
        """Pixels of the source image in the region, slice by slice."""
        return tuple(int(np.count_nonzero(self.to_image(at))) for at in range(len(self.mask)))


def of_finding(
    maps: ResponseMap, finding: dict[str, Any], bundle: Bundle, size: tuple[int, int], share: float = SHARE
) -> CriticalRegion | None:
    """Critical region of the class that a finding was answered with.

    Parameters
    ----------
    maps : ResponseMap
    finding : dict
        Its part of the Analysis body.
    bundle : Bundle
        The model that answered; a model of photographs looks at nothing beyond its `margin`.
    size : (rows, columns)
        Of the source images.
    share : float

    Returns
    -------
    CriticalRegion or None
        None where nothing speaks for the class.
    """
    margin = float(bundle.step("fundus_square")["margin"]) if "grade" in finding else None
    return critical(maps, answered(finding, bundle), size, share=share, margin=margin)


def answered(finding: dict[str, Any], bundle: Bundle) -> str:
    """Class that a finding was answered with: its grade, or what the operating point decided.

    A positive decision gives the most probable of the classes that the operating point counts, a negative one the most
    probable of the others.
    """
    if "grade" in finding:
        return bundle.classes[int(finding["grade"])]
    decided, probabilities = finding["operating_point"], finding["probabilities"]
    counted = bundle.operating_point(decided["name"]).score_classes
    positive = decided["decision"] == "positive"
    candidates = [name for name in bundle.classes if (name in counted) == positive] or list(bundle.classes)
    return max(candidates, key=lambda name: float(probabilities[name]))


def critical(
    maps: ResponseMap, class_name: str, size: tuple[int, int], *, share: float = SHARE, margin: float | None = None
) -> CriticalRegion | None:
    """Critical region of one class.

    Only pixels whose centre lies inside the image count, and of a photograph only lit ones, so neither the padding of a window
    at the image's border nor the surround of a fundus can hold the peak.

    Parameters
    ----------
    maps : ResponseMap
        One threshold holds for all its slices.
    class_name : str
    size : (rows, columns)
        Of the source images.
    share : float
        In 0..1, 0 excluded.
    margin : float, optional
        Radius, in half widths of the map, of the circle round its middle beyond which nothing counts.

    Returns
    -------
    CriticalRegion or None
        None where no pixel that counts has a positive response.

    Raises
    ------
    ValueError
        When the share is not in 0..1 or there is no such class.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share {share} is not above 0 and at most 1")
    response = maps.response[:, maps.classes.index(class_name)]
    counted = np.where(_field(maps, size, margin), response, 0)
    flat = int(counted.argmax())
    peak_at = tuple(int(v) for v in np.unravel_index(flat, counted.shape))
    peak = float(counted[peak_at])
    if not peak > 0:
        return None
    return CriticalRegion(
        class_name=class_name,
        share=share,
        peak=peak,
        peak_at=(peak_at[0], peak_at[1], peak_at[2]),
        mask=counted >= share * peak,
        box_px=np.asarray(maps.box_px, np.float64),
        sources=maps.sources,
        size=size,
    )


def measured(region: CriticalRegion, spacing_mm: tuple[float, float] | None) -> dict[str, Any]:
    """Numbers about a region, for reports: its size in the slice where it is largest.

    Parameters
    ----------
    region : CriticalRegion
    spacing_mm : (row spacing, column spacing), optional
        Pixel Spacing (0028,0030).

    Returns
    -------
    dict
        ``class``, ``share``, ``sop_instance_uid`` of that slice, ``area_px`` (pixels of the source image), ``area_mm2``
        (None without spacing), ``slices`` (how many it reaches).
    """
    areas = region.areas()
    largest = int(np.argmax(areas))
    return {
        "class": region.class_name,
        "share": region.share,
        "sop_instance_uid": region.sources[largest],
        "area_px": areas[largest],
        "area_mm2": None if spacing_mm is None else round(areas[largest] * spacing_mm[0] * spacing_mm[1], 2),
        "slices": sum(area > 0 for area in areas),
    }


def _cells(pixels: int, start: float, end: float, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Along one axis: image pixels whose centres lie in start..end, and the map pixel that each centre lies in."""
    inside = (np.arange(pixels) + 0.5 - start) * (cells / (end - start))
    cell = np.floor(inside).astype(np.int64)
    kept = np.flatnonzero((cell >= 0) & (cell < cells))
    return kept, cell[kept]


def _field(maps: ResponseMap, size: tuple[int, int], margin: float | None) -> np.ndarray:
    """What counts, bool (S, H, W)."""
    height, width = maps.response.shape[2:]
    field = np.zeros((len(maps.response), height, width), bool)
    for at, (x0, y0, x1, y1) in enumerate(np.asarray(maps.box_px, np.float64)):
        y, x = (
            start + (np.arange(cells) + 0.5) * ((end - start) / cells)
            for start, end, cells in ((y0, y1, height), (x0, x1, width))
        )
        field[at] = ((y >= 0) & (y < size[0]))[:, None] & ((x >= 0) & (x < size[1]))[None]
    if maps.background.ndim == 4:
        tall, wide = (_middles(n, cells) for n, cells in zip(maps.background.shape[1:3], (height, width), strict=True))
        field &= maps.background[:, tall][:, :, wide].max(axis=3) > DARK
    if margin is not None:
        v, u = ((2 * np.arange(cells) + 1) / cells - 1 for cells in (height, width))
        field &= (v[:, None] ** 2 + u[None] ** 2) < margin**2
    return field


def _middles(pixels: int, cells: int) -> np.ndarray:
    """Index of the pixel, of `pixels` along an axis, that holds the middle of each of `cells` equal parts."""
    return np.asarray(np.floor((np.arange(cells) + 0.5) * (pixels / cells)), np.int64)
