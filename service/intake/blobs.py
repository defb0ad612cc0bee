"""Bright blobs of any size in one lung, told from vessels and plates, and measured.

A blob is a peak of the scale-space Laplacian (Lindeberg, Int. J. Comput. Vision 30, 1998) where the three principal curvatures
agree (Li, Sone, Doi, Med. Phys. 30, 2003: a ball has three equal ones, a vessel two, a plate one). What stands out of the lung
there is then cut free from thinner vessels by an opening, and measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from service.intake.lungs import Lung
from service.intake.morphology import distance, halved, labels, smoothed

SIGMAS_MM = (1.25, 1.7, 2.3, 3.2, 4.5, 6.3, 8.5)
"""A ball of diameter 2 sqrt(3) sigma answers most: 4.3 to 29 mm."""
COARSE_FROM_MM = 3.0
"""Wider filters run on half the resolution."""
SLAB = 64
"""Planes that the narrow filters see at a time, and a margin."""
LEAST_RESPONSE_HU, LEAST_AGREEMENT = 90.0, 0.2
LUNG_HU, BRIGHTEST_HU = -1000, 150
MOST_PEAKS = 120
"""The clearest of one lung are measured."""
OPENING = 0.55
"""What is thinner than this share of a blob's thickness is not part of it."""


@dataclass(frozen=True)
class Peak:
    """A blob: voxel (plane, row, column) in the lung's box, scale in mm, response in HU, agreement of curvatures 0..1."""

    at: tuple[float, float, float]
    sigma_mm: float
    response: float
    agreement: float


@dataclass(frozen=True)
class Blob:
    """A measured blob.

    Attributes
    ----------
    at : (plane, row, column)
        Voxel of the volume: centre of the piece.
    peak : Peak
    extent_mm : float
        Longest axis of the ellipsoid with the piece's second moments.
    contrast : float
        Mean above the lung, HU.
    compactness : float
        Diameter of the largest ball inside, as a share of that of the ball with the same volume; 1 is a ball.
    flatness : float
        Shortest axis to longest axis; 1 is a ball.
    going_on : float
        Thickness of what runs on from the piece, as a share of the piece's; 0 is alone, 1 a vessel.
    """

    at: tuple[float, float, float]
    peak: Peak
    extent_mm: float
    contrast: float
    compactness: float
    flatness: float
    going_on: float


def find(lung: Lung, hounsfield: np.ndarray, step_mm: float) -> list[Blob]:
    """Blobs of one lung, the clearest peaks first.

    Parameters
    ----------
    lung : Lung
    hounsfield : ndarray, int16, shape (planes, rows, columns)
        The whole volume, the same step in mm in all directions.
    """
    if min(lung.field.shape) < 8:
        return []
    above = np.clip(hounsfield[lung.box], LUNG_HU, BRIGHTEST_HU) - np.int16(round(lung.parenchyma_hu))
    above[~lung.field] = 0
    clearest = _apart(sorted(_peaks(above, lung.field, step_mm), key=lambda peak: (-_clarity(peak), peak.at)))
    measured = (_measured(peak, above, lung, step_mm, len(hounsfield)) for peak in clearest)
    return [blob for blob in measured if blob is not None]


def _clarity(peak: Peak) -> float:
    return peak.response * peak.agreement


def _apart(found: list[Peak]) -> list[Peak]:
    """The first peak of each place; a place is as large as the larger of two filters."""
    kept: list[Peak] = []
    for peak in found:
        if all(np.hypot.reduce(np.subtract(peak.at, k.at)) >= 1.2 * max(k.sigma_mm, peak.sigma_mm) for k in kept):
            kept.append(peak)
            if len(kept) == MOST_PEAKS:
                break
    return kept


def _peaks(above: np.ndarray, field: np.ndarray, step_mm: float) -> Iterator[Peak]:
    """Peaks of all scales; the narrow filters run slab by slab, so that little is in memory at a time."""
    narrow = tuple(sigma for sigma in SIGMAS_MM if sigma < COARSE_FROM_MM)
    margin = int(np.ceil(5 * narrow[-1] / step_mm))
    for first in range(0, len(above), SLAB):
        low, high = max(0, first - margin), min(len(above), first + SLAB + margin)
        for peak in _slab_peaks(above[low:high].astype(np.float32), field[low:high], step_mm, narrow):
            plane = peak.at[0] + low
            if first <= plane < first + SLAB:
                yield replace(peak, at=(plane, *peak.at[1:]))
    wide = tuple(sigma for sigma in SIGMAS_MM if sigma >= COARSE_FROM_MM)
    for peak in _slab_peaks(halved(above), halved(field) > 0.5, 2 * step_mm, wide):
        plane, row, column = (2 * v + 0.5 for v in peak.at)
        yield replace(peak, at=(plane, row, column))


def _slab_peaks(image: np.ndarray, inside: np.ndarray, step_mm: float, sigmas: tuple[float, ...]) -> Iterator[Peak]:
    if min(image.shape) < 4:  # the filter's least
        return
    for sigma in sigmas:
        smooth = smoothed(image, sigma / step_mm)
        scale = (sigma / step_mm) ** 2
        response = _laplacian(smooth) * np.float32(-scale)
        where = _maxima(response, inside[1:-1, 1:-1, 1:-1])
        curvatures = np.linalg.eigvalsh(_hessians(smooth, where + 1))  # ascending; all negative in a blob
        agreement = np.clip(curvatures[:, 2] / np.minimum(curvatures[:, 0], -1e-6), 0, 1)
        good = agreement >= LEAST_AGREEMENT
        for place, agrees in zip(where[good], agreement[good], strict=True):
            plane, row, column = (float(v) + 1 for v in place)
            yield Peak((plane, row, column), sigma, float(response[tuple(place)]), float(agrees))


def _laplacian(smooth: np.ndarray) -> np.ndarray:
    """Sum of second differences, one voxel smaller on every side."""
    total = -6 * smooth[1:-1, 1:-1, 1:-1]
    for axis in range(3):
        for side in (slice(None, -2), slice(2, None)):
            part = [slice(1, -1)] * 3
            part[axis] = side
            total += smooth[tuple(part)]
    return total


def _maxima(response: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Voxels (n, 3) above the least response that none of their 26 neighbours exceeds; of equal ones the first."""
    where = np.argwhere((response > LEAST_RESPONSE_HU) & inside)
    value = response[tuple(where.T)]
    padded = np.pad(response, 1, constant_values=-np.inf)
    top = np.ones(len(where), bool)
    for way in np.ndindex(3, 3, 3):
        if way != (1, 1, 1):
            other = padded[tuple((where + way).T)]
            top &= value > other if way < (1, 1, 1) else value >= other
    return where[top]


def _hessians(smooth: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Second differences at voxels (n, 3), shape (n, 3, 3), float64."""
    unit = np.eye(3, dtype=int)

    def at(way: np.ndarray) -> np.ndarray:
        return np.asarray(smooth[tuple((where + way).T)], np.float64)

    result = np.empty((len(where), 3, 3))
    for a in range(3):
        result[:, a, a] = at(unit[a]) + at(-unit[a]) - 2 * at(0 * unit[a])
        for b in range(a):
            plus, minus = unit[a] + unit[b], unit[a] - unit[b]
            result[:, a, b] = result[:, b, a] = (at(plus) + at(-plus) - at(minus) - at(-minus)) / 4
    return result


def _measured(peak: Peak, above: np.ndarray, lung: Lung, step_mm: float, planes: int) -> Blob | None:
    """Cut the blob out of its surroundings and measure it; None where nothing stands out, or the scan ends in it."""
    radius = np.sqrt(3) * peak.sigma_mm / step_mm
    middle, reach = np.rint(peak.at).astype(int), int(np.ceil(2 * radius + 4))
    low, high = np.maximum(middle - reach, 0), np.minimum(middle + reach + 1, above.shape)
    part = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    image, field = above[part], lung.field[part]
    peak_at = np.subtract(peak.at, low)
    z, y, x = (grid - a for grid, a in zip(np.ogrid[tuple(slice(0, n) for n in image.shape)], peak_at, strict=True))
    away = np.sqrt(z**2 + y**2 + x**2)
    near = away <= max(0.4 * radius, 1.2)
    pieces = labels((image > 0.5 * image[near].mean()) & field)
    hits = np.bincount(pieces[near])[1:]
    if not hits.any():
        return None
    whole = pieces == hits.argmax() + 1
    depth = distance(whole, 1.0)
    core = np.unravel_index(np.where(away <= max(0.6 * radius, 1.5), depth, 0).argmax(), depth.shape)
    thickness = float(depth[core])
    ring = (away > 2 * radius + 1) & (away <= 2 * radius + 2.5)
    ball = away <= 2 * radius + 1
    thick = labels(ball & (depth > OPENING * thickness))
    piece = whole & ball & (distance(thick != thick[core], 1.0) <= OPENING * thickness + 0.5)
    voxels = np.argwhere(piece)
    at = voxels[:, 0] + low[0] + lung.box[0].start
    if len(voxels) < 8 or at.min() == 0 or at.max() >= planes - 2:
        return None  # what the scan cuts has no shape
    center = voxels.mean(axis=0)
    moments = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(voxels.T)), 1 / 12))
    plane, row, column = (float(c + a + b.start) for c, a, b in zip(center, low, lung.box, strict=True))
    return Blob(
        at=(plane, row, column),
        peak=peak,
        extent_mm=float(2 * np.sqrt(5) * moments[2] * step_mm),
        contrast=float(image[piece].mean()),
        compactness=float(2 * thickness / np.cbrt(6 * len(voxels) / np.pi)),
        flatness=float(moments[0] / moments[2]),
        going_on=float(min(1.0, depth[ring].max(initial=0) / thickness)),
    )
